#!/bin/bash
# Takes away what Neutron's agents made on this node: namespaces with what runs in them, bridges, taps, VXLAN links and rules of packet filters. With `is-clean`: exit code 0 when nothing of it is there.
set -u

namespaces() { ip netns list 2>/dev/null | awk '/^(qdhcp|qrouter|qlbaas|snat|fip)-/ { print $1 }'; }
links() { ip -oneline link show 2>/dev/null | sed --quiet --regexp-extended 's/^[0-9]+: ((brq|tap|vxlan-|qvb|qvo)[^:@ ]*)[:@].*/\1/p'; }
filters() { iptables-save 2>/dev/null | grep --extended-regexp '^(:|-A )neutron-'; }
sets() { ipset list --name 2>/dev/null | grep --extended-regexp '^N(IPv4|IPv6|ET)'; }
frames() { ebtables --table nat --list 2>/dev/null | grep --only-matching --extended-regexp 'neutron(MAC|ARP)[^, ]*'; ebtables --table filter --list 2>/dev/null | grep --only-matching --extended-regexp 'neutron(MAC|ARP)[^, ]*'; }

if [ "${1:-}" = is-clean ]; then
  [ -z "$(namespaces)$(links)$(filters)$(sets)$(frames)" ]
  exit
fi

for namespace in $(namespaces); do
  ip netns pids "$namespace" | xargs --no-run-if-empty kill --signal KILL 2>/dev/null
  ip netns delete "$namespace"
done
for link in $(links); do
  # an interface of the node that a bridge has taken over is given back by deleting the bridge
  ip link delete "$link" 2>/dev/null
done
for table in filter nat mangle raw; do
  for save in iptables ip6tables; do
    rules=$("$save-save" --table "$table" 2>/dev/null) || continue
    grep --quiet neutron- <<<"$rules" || continue
    grep --invert-match neutron- <<<"$rules" | "$save-restore" --table "$table"
  done
done
for name in $(sets); do ipset destroy "$name"; done
for table in nat filter; do
  chains=$(ebtables --table "$table" --list 2>/dev/null | sed --quiet --regexp-extended 's/^Bridge chain: (neutron(MAC|ARP)[^, ]*).*/\1/p')
  [ -n "$chains" ] || continue
  ebtables --table "$table" --flush
  for chain in $chains; do ebtables --table "$table" --delete-chain "$chain"; done
done
exit 0
