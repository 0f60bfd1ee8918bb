#!/bin/bash
# Keeps the pod network of this node: what the kubelet's plugins are told, a route to the part of each other node, and the masquerading of what leaves the network.
# Arguments: the pod network (CIDR), the largest packet in bytes (0: as the link). Which part belongs to which node, the cluster says; the node asks it as the kubelet does.
set -uo pipefail
network=$1 mtu=$2
kubeconfig=/etc/kubernetes/kubelet.conf
configuration=/etc/cni/net.d/10-lichen.conflist
# Of the routes that are ours (see rt_protos): any number that nobody else uses.
protocol=76
self=$(hostname | tr '[:upper:]' '[:lower:]')
declare -A parts

complaint=

# Says why the cluster does not answer, once for each reason.
complain() {
  [ "$complaint" = "$1" ] || echo "the nodes of the cluster cannot be read: $1" >&2
  complaint=$1
}

# What the kubelet's plugins are told. Written in one step: they read it at any time.
configure() {
  local text
  text=$(cat <<END
{
  "cniVersion": "0.3.1",
  "name": "lichen",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "hairpinMode": true,
      "mtu": $mtu,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "$1"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
END
  )
  [ "$(cat "$configuration" 2>/dev/null)" != "$text" ] || return 0
  # A bridge of an earlier membership has the address of another part.
  ip link delete cni0 2>/dev/null
  mkdir -p "${configuration%/*}"
  printf '%s\n' "$text" >"$configuration.new" && mv "$configuration.new" "$configuration" && echo "pods of this node: $1"
}

masquerade() {
  local rule=(POSTROUTING --source "$network" ! --destination "$network" --match comment --comment lichen-pod-network --jump MASQUERADE)
  iptables --wait --table nat --check "${rule[@]}" 2>/dev/null || iptables --wait --table nat --append "${rule[@]}"
}

# One node as it is now: its name, its part, its address.
learn() {
  [ -n "$2" ] || return 0
  if [ "$1" = "$self" ]; then
    configure "$2"
    return
  fi
  [ -n "$3" ] || return 0
  if [ "${parts[$1]-}" != "$2 $3" ]; then
    # It may have been in the cluster before, with another part.
    forget "$1"
    [ -n "$(ip route show "$2" via "$3" protocol "$protocol")" ] || { ip route replace "$2" via "$3" protocol "$protocol" && echo "pods of $1: $2 via $3"; }
  fi
  parts[$1]="$2 $3"
}

forget() {
  [ -n "${parts[$1]-}" ] || return 0
  ip route delete "${parts[$1]%% *}" protocol "$protocol" 2>/dev/null && echo "pods of $1: no route any more"
  unset "parts[$1]"
}

# All nodes as they are now; routes of those that went while nobody looked are taken away.
learn_all() {
  local list name part address route
  if ! list=$(kubectl --kubeconfig "$kubeconfig" get nodes --output 'jsonpath={range .items[*]}{.metadata.name}{"|"}{.spec.podCIDR}{"|"}{.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}' 2>&1); then
    complain "${list##*$'\n'}"
    return 1
  fi
  complaint=
  parts=()
  while IFS='|' read -r name part address; do
    [ -z "$name" ] || learn "$name" "$part" "${address%% *}"
  done <<<"$list"
  while read -r route _; do
    [ -z "$route" ] || [[ " ${parts[*]} " == *" $route "* ]] || ip route delete "$route" protocol "$protocol"
  done < <(ip route show proto "$protocol")
  masquerade
}

while :; do
  if [ -e "$kubeconfig" ] && learn_all; then
    # Begins with all nodes once more, so nothing is missed in between; ends now and then, so that nothing stays missed.
    while IFS='|' read -r event name part address; do
      case "$event" in
        ADDED | MODIFIED) learn "$name" "$part" "${address%% *}" ;;
        DELETED) forget "$name" ;;
      esac
    done < <(timeout 600 kubectl --kubeconfig "$kubeconfig" get nodes --watch --output-watch-events --output 'jsonpath={.type}{"|"}{.object.metadata.name}{"|"}{.object.spec.podCIDR}{"|"}{.object.status.addresses[?(@.type=="InternalIP")].address}{"\n"}' 2>/dev/null)
  fi
  sleep 2
done
