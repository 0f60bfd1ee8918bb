#!/bin/bash
# A volume group in a file, for a node that has no disk to spare. Arguments: what to do, the name of the group, the size in GiB.
#   up, is-up              the group is there, in a file of at least that size; what is missing is made
#   down, is-down          the file is no device any more, and keeps the group
#   delete, is-deleted     there is no file any more
set -euo pipefail
action=$1 group=$2 bytes=$(($3 << 30))
file=/var/lib/cinder/volume-group.img
# LVM keeps some of the device for itself, and gives away whole extents.
overhead=$((16 << 20))
export LC_ALL=C

# The device that the file is; nothing when it is none.
device() { losetup --noheadings --output NAME --associated "$file" 2>/dev/null | head --lines=1 | tr --delete ' ' || true; }
size() { stat --format=%s "$file" 2>/dev/null || echo 0; }
# What LVM says of the device: the name of its group, or its size in bytes; nothing when it is not part of a group.
physical_volume() { pvs --noheadings --units b --nosuffix --options "$1" "$2" 2>/dev/null | tr --delete ' ' || true; }

up() {
  local device
  [ -e "$file" ] || install --mode=0600 /dev/null "$file"
  [ "$(size)" -ge "$bytes" ] || truncate --size="$bytes" "$file"
  device=$(device)
  [ -n "$device" ] || device=$(losetup --find --show "$file")
  losetup --set-capacity "$device"
  [ "$(physical_volume vg_name "$device")" = "$group" ] || vgcreate "$group" "$device"
  pvresize "$device"
  vgchange --activate y "$group"
}

is_up() {
  local device
  [ "$(size)" -ge "$bytes" ] && device=$(device) && [ -n "$device" ] &&
    [ "$(physical_volume vg_name "$device")" = "$group" ] && [ "$(physical_volume pv_size "$device")" -ge $((bytes - overhead)) ]
}

down() {
  local device
  device=$(device)
  [ -n "$device" ] || return 0
  [ "$(physical_volume vg_name "$device")" != "$group" ] || vgchange --activate n "$group"
  losetup --detach "$device"
}

is_down() { [ -z "$(device)" ]; }

delete() {
  down
  rm --force "$file"
}

is_deleted() { is_down && ! [ -e "$file" ]; }

case $action in
up) up ;;
is-up) is_up ;;
down) down ;;
is-down) is_down ;;
delete) delete ;;
is-deleted) is_deleted ;;
*) echo "no such action: $action" >&2; exit 2 ;;
esac
