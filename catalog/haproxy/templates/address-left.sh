#!/bin/sh
# keepalived runs this when the state of the node changes: it is told the kind and the name of what changed, the new state and the priority. The virtual address is the first argument.
#
# A program of this node that connected to the virtual address while the node had it has a connection from that address to itself. When the address goes to another node nobody can
# answer there, and nobody says so: the program would wait for a quarter of an hour and longer. Such connections end here, and the program makes a new one.
set -u
# the end of keepalived is the end of all its processes, and this is to be done then too
trap "" TERM
address=$1
[ "$4" != MASTER ] || exit 0
left=50
while ip -oneline -4 address show to "$address/32" | grep --quiet . && [ $left -gt 0 ]; do
  sleep 0.1
  left=$((left - 1))
done
# given up only if it is the node's again
ip -oneline -4 address show to "$address/32" | grep --quiet . || ss --kill --no-header --tcp src "$address" >/dev/null
