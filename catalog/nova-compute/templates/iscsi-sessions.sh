#!/bin/bash
# Whether servers of this node have the volumes that they have by iSCSI.
#   iscsi-sessions present   exit code 1, with a line for each volume that is away
#   iscsi-sessions tended    exit code 1 when one stays away though its node lets clients in: iscsid has lost track of its session (https://github.com/open-iscsi/open-iscsi/issues/387)
set -u
# What iscsid takes to try again, several times over.
patience_s=15

# Lines with the name of the volume's target, the state of its session, and its portal; of those of Cinder that are not logged in.
away() {
  local session name state connection
  for session in /sys/class/iscsi_session/session*; do
    name=$(cat "$session/targetname" 2>/dev/null) state=$(cat "$session/state" 2>/dev/null)
    [[ $name == iqn.2010-10.org.openstack:* ]] && [ "$state" != LOGGED_IN ] || continue
    connection=/sys/class/iscsi_connection/connection${session##*/session}:0
    echo "${name#*:} $state $(cat "$connection/persistent_address" 2>/dev/null) $(cat "$connection/persistent_port" 2>/dev/null)"
  done
}

# Portals of those that let this node in. Each is asked once, whatever number of volumes it has: one that is off takes 3 s.
untended() {
  local address port
  away | cut --delimiter=' ' --fields=3,4 | sort --unique | while read -r address port; do
    ! timeout 3 bash -c '>"/dev/tcp/$1/$2"' - "$address" "$port" 2>/dev/null || echo "$address:$port"
  done
}

case $1 in
present)
  away | sed --regexp-extended 's/^(\S+) (\S+) (\S*) (\S*)$/servers wait for \1: its iSCSI session with \3:\4 is \2/' >&2
  [ -z "$(away)" ]
  ;;
tended)
  for ((second = 0; second < patience_s; second++)); do
    [ -n "$(untended)" ] || exit 0
    sleep 1
  done
  exit 1
  ;;
esac
