#!/bin/sh
# ebtables over nf_tables, which cannot delete a rule with --among-src by its text (RULE_DELETE failed: Invalid argument): such a rule is looked for, and deleted by its number.
real=/usr/sbin/ebtables-nft
case " $* " in
*' -D neutronMAC-'*' --among-src '*)
  table=nat
  chain=
  before=
  for argument in "$@"; do
    case $before in
    -t) table=$argument ;;
    -D) chain=$argument ;;
    esac
    before=$argument
  done
  number=$("$real" -t "$table" -L "$chain" --Ln | sed --quiet 's/^\([0-9]*\)[.:]* .*--among-src.*/\1/p' | head --lines=1)
  [ -n "$number" ] || exit 0
  exec "$real" --concurrent -t "$table" -D "$chain" "$number"
  ;;
esac
exec "$real" "$@"
