#!/bin/bash
# What keeps this node from being one of a cluster: all of it, and how to mend it. Arguments: where Lichen keeps what it knows of the node, whether swap may be on (swap, no-swap),
# the room that is needed under /var/lib (MiB), where packages come from (or nothing), and the TCP ports that must be free until the node is in a cluster.
set -u
kept=$1 swap=$2 room=$3 source=$4
shift 4
problems=()
problem() { problems+=("$1"); }

[ "$(id --user)" = 0 ] || problem 'the agent is not root'
[[ $(hostname) =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || problem "the name of the node, $(hostname), is no DNS name: set another one with hostnamectl"
[ "$swap" = swap ] || [ "$(wc --lines </proc/swaps)" -le 1 ] || problem "swap is on ($(awk 'NR > 1 { printf "%s%s", sep, $1; sep = ", " }' /proc/swaps)): turn it off (swapoff --all, and in /etc/fstab), or let the kubelet live with it (kubelet: {failSwapOn: false})"

if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  for controller in cpu cpuset memory pids; do
    grep --quiet --word-regexp "$controller" /sys/fs/cgroup/cgroup.controllers || problem "the cgroup controller $controller is not there (cgroup v2): the kernel was started without it"
  done
else
  for controller in cpu cpuacct cpuset devices freezer memory pids; do
    awk -v name="$controller" '$1 == name && $4 == 1 { found = 1 } END { exit !found }' /proc/cgroups || problem "the cgroup controller $controller is not there (cgroup v1): the kernel was started without it"
  done
fi

grep --quiet --word-regexp overlay /proc/filesystems || modprobe --dry-run --quiet overlay 2>/dev/null || problem 'the kernel has no overlay file system (module overlay)'
[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || modprobe --dry-run --quiet br_netfilter 2>/dev/null || problem 'the kernel cannot filter bridged packets (module br_netfilter)'

[ "$(date +%s)" -ge 1704067200 ] || problem "the clock of the node says $(date --utc +%FT%TZ): certificates would not be valid yet; let it be set (systemd-timesyncd, chrony)"
# What the server of the packages says it is now. It may stand in a cache for long, so it tells a clock that is behind, and not one that is ahead: that the API tells nodes that join.
if [[ $source == http* ]]; then
  answer=$(/usr/lib/apt/apt-helper --option Debug::Acquire::http=true --option Debug::Acquire::https=true --option Acquire::Retries=0 download-file "$source" /dev/null 2>&1 | sed --quiet 's/^[Dd]ate: //p' | head --lines=1 | tr --delete '\r')
  if [ -n "$answer" ] && [ $(($(date --date="$answer" +%s) - $(date +%s))) -gt 300 ]; then
    problem "the clock of the node is behind: it says $(date --utc +%FT%TZ), and the server of the packages $(date --utc --date="$answer" +%FT%TZ); let it be set (systemd-timesyncd, chrony)"
  fi
fi
if [ "$(timedatectl show --property=NTP --value 2>/dev/null)" = yes ] && [ "$(timedatectl show --property=NTPSynchronized --value 2>/dev/null)" = no ]; then
  echo 'the clock of the node is not synchronised yet (timedatectl)'
fi

free=$(df --output=avail --block-size=1M /var/lib | tail --lines=1)
[ "$free" -ge "$room" ] || problem "there are $((free)) MiB free under /var/lib, and $room are needed"

# What was begun here is taken up again, or made anew, by what comes next.
if ! [ -e "$kept/begun" ] && ! [ -e "$kept/initialised" ] && ! [ -e "$kept/joined" ]; then
  for file in /etc/kubernetes/admin.conf /etc/kubernetes/kubelet.conf /var/lib/etcd/member; do
    ! [ -e "$file" ] || problem "the node is one of another cluster, or was ($file is there): take it out with kubeadm reset"
  done
  for port in "$@"; do
    # Local port in hexadecimal, state listening (0A).
    ! cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep --quiet --extended-regexp "^ *[0-9]+: [0-9A-F]+:$(printf '%04X' "$port") [0-9A-F]+:0000 0A " || problem "TCP port $port is taken by another program"
  done
fi

[ "${#problems[@]}" = 0 ] && exit 0
printf '%s\n' "${problems[@]}" >&2
exit 1
