#!/bin/bash
# What keeps this node from running a service: all of it at once, one line each, and exit code 1. Arguments, each of which may be left out or come several times:
#   memory=MIB disk=MIB       what is needed; disk under /var/lib
#   port=NUMBER:UNIT[:ADDRESS]  TCP port that must be free until the unit (or one of the pattern) runs; with an address, on that one alone
#   interface=NAME            of the network, which must be there
#   virtualisation=kvm        the processor must have it
#   device=PATH:MODULE        a device of the kernel, and the module that makes it
#   filesystem=NAME           the kernel must know it
#   identity=URL              an http server whose clock this node's must agree with, if it answers
set -u
problems=()
problem() { problems+=("$1"); }
# Tokens of Keystone are not valid before they are made, by the clock of whoever looks at them.
max_skew=30

# The Date of an answer to a HEAD, in seconds; nothing when there is none within 10 s.
date_of() {
  local authority=${1#http://} host port line
  authority=${authority%%/*} host=${authority%:*} port=${authority##*:}
  [ "$port" != "$authority" ] || port=80
  line=$(timeout 10 bash -c 'exec 3<>"/dev/tcp/$1/$2" && printf "HEAD / HTTP/1.0\r\nHost: %s\r\n\r\n" "$3" >&3 && sed --quiet "s/^[Dd]ate: //p; s/^\r$/&/; /^\r$/q" <&3' - "$host" "$port" "$authority" 2>/dev/null | tr --delete '\r')
  [ -z "$line" ] || date --date="$line" +%s 2>/dev/null
}

[ "$(id --user)" = 0 ] || problem 'the agent is not root'
[ "$(date +%s)" -ge 1704067200 ] || problem "the clock of the node says $(date --utc +%FT%TZ): let it be set (systemd-timesyncd, chrony)"
for argument in "$@"; do
  value=${argument#*=}
  case $argument in
  memory=*)
    total=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' /proc/meminfo)
    [ "$total" -ge "$value" ] || problem "the node has $total MiB of memory, and $value are needed"
    ;;
  disk=*)
    free=$(df --output=avail --block-size=1M /var/lib | tail --lines=1)
    [ "$free" -ge "$value" ] || problem "there are $((free)) MiB free under /var/lib, and $value are needed"
    ;;
  port=*)
    IFS=: read -r number unit address <<<"$value"
    # Local address and port in hexadecimal, state listening (0A). An IPv4 address has its bytes in reverse; 0 is all addresses.
    hosts='[0-9A-F]+'
    [ -z "${address:-}" ] || hosts="(0+|$(IFS=. && set -- $address && printf '%02X%02X%02X%02X' "$4" "$3" "$2" "$1"))"
    if cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep --quiet --extended-regexp "^ *[0-9]+: $hosts:$(printf '%04X' "$number") [0-9A-F]+:0000 0A "; then
      systemctl is-active --quiet "$unit" 2>/dev/null || problem "TCP port $number, which $unit is to listen on, is taken by another program"
    fi
    ;;
  interface=*)
    [ -e "/sys/class/net/$value" ] || problem "the node has no interface $value (found: $(cd /sys/class/net && echo *))"
    ;;
  virtualisation=kvm)
    [ -e /dev/kvm ] || problem 'the node has no /dev/kvm: its processor has no virtualisation, or it is turned off in the firmware, or the node is a guest without it; servers can be emulated, which is slow (virtType: qemu)'
    ;;
  device=*)
    [ -e "${value%%:*}" ] || modprobe --quiet "${value#*:}" 2>/dev/null
    [ -e "${value%%:*}" ] || problem "the node has no ${value%%:*}: its kernel lacks ${value#*:}"
    ;;
  filesystem=*)
    known() { grep --quiet --word-regexp "$value" /proc/filesystems; }
    known || modprobe --quiet "fs-$value" 2>/dev/null
    known || problem "the kernel of the node does not know the file system $value"
    ;;
  identity=*)
    if there=$(date_of "$value") && [ -n "$there" ]; then
      skew=$(($(date +%s) - there))
      [ "$skew" -le "$max_skew" ] || problem "the clock of the node is $skew s ahead of that of $value: tokens would not be valid; let it be set (systemd-timesyncd, chrony)"
      [ "$skew" -ge "-$max_skew" ] || problem "the clock of the node is $((-skew)) s behind that of $value: tokens would not be valid; let it be set (systemd-timesyncd, chrony)"
    fi
    ;;
  esac
done

[ "${#problems[@]}" = 0 ] && exit 0
printf '%s\n' "${problems[@]}" >&2
exit 1
