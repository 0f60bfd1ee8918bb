#!/bin/bash
# keystone-manage as the user keystone, so that no file of the service ends up owned by root. Drops the traceback that eventlet prints when
# Python ends ("Exception ignored in _removeHandlerRef"): it is harmless, and would stand where the reason of a failure is looked for. After a failure
# the reason is said once more, in the last line.
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
PYTHONWARNINGS=ignore runuser -u keystone -- keystone-manage "$@" 2>&1 |
  sed --unbuffered -e 's/\x1b\[[0-9;]*m//g' -e '/^Exception ignored in: <function _removeHandlerRef/,$d' |
  tee "$output"
code=${PIPESTATUS[0]}
if [ "$code" != 0 ]; then
  cause=$(grep -E '(Error|Exception|Refused)[^:]*: ' "$output" | tail -n 1 | sed -E 's/^[-0-9:. ]+(ERROR|CRITICAL) [a-z.]+:? *//')
  [ -z "$cause" ] || echo "keystone-manage $1: $cause" >&2
fi
exit "$code"
