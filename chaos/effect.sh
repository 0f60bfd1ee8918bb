#!/bin/bash
# One side effect, written to an append-only ledger: effect.sh MODE HOME MARK SECONDS LINES
#
# Each line of HOME/ledger is `TIME EVENT MARK EXECUTION [TEXT]`, appended in one write and synced before the script goes on. EXECUTION is new for every run of
# this script, so that a second run of the same command is seen. MODE says what counts as the effect:
#   unless, flaky   the line `effect` itself (the check looks for it, so there is no moment between effect and proof); flaky fails the first time
#   creates         the file HOME/made/MARK, made by link(2), which only one can do; a second one says `double`
#   uncheckable     that it began at all
set -eu
mode=$1 home=$2 mark=$3 seconds=$4 lines=$5
execution=$BASHPID-${EPOCHREALTIME/./}
note() {
  printf '%s %s %s %s %s\n' "$EPOCHREALTIME" "$1" "$mark" "$execution" "${2-}" >>"$home/ledger"
  sync --data "$home/ledger"
}
earlier=$(grep --count --fixed-strings " begin $mark " "$home/ledger" || true)
note begin "$mode"
# Printed in ten parts over the time, so that there is output at every moment of it.
for part in 1 2 3 4 5 6 7 8 9 10; do
  for ((line = (part - 1) * lines / 10 + 1; line <= part * lines / 10; line++)); do
    echo "$mark $execution line $line of $lines"
  done
  if [[ $seconds != 0 ]]; then sleep "${seconds}e-1"; fi
done
if [[ $mode == flaky && $earlier == 0 ]]; then
  note failed
  echo "$mark fails the first time" >&2
  exit 1
fi
if [[ $mode == creates ]]; then
  echo "$execution" >"$home/made/.$mark.$execution"
  ln "$home/made/.$mark.$execution" "$home/made/$mark" || note double
else
  note effect
fi
note end "$lines"
