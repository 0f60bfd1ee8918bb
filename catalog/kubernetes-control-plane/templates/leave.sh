#!/bin/bash
# Takes this node out of a control plane that stays: its member out of etcd, its name out of the cluster's list. Refuses before anything is changed when those that stay would not be enough.
# Arguments: where Lichen keeps what it knows of the node, and
#   is-done                  exit code 0 when it has left
#   may-be PORT ADDRESS...   exit code 0 when it may leave, or has left; the port of the API, and the addresses of nodes that stay
#   run PORT ADDRESS...      does it
set -uo pipefail
kept=$1 verb=$2
# A node that never came into the cluster has nothing to leave.
is_done() { [ -e "$kept/left" ] || ! { [ -e "$kept/initialised" ] || [ -e "$kept/joined" ]; }; }
if [ "$verb" = is-done ]; then
  is_done
  exit
fi
port=$3
shift 3
urls=("${@/#/https://}")
urls=("${urls[@]/%/:2379}")
if [ "$verb" = may-be ]; then
  is_done || "$kept/etcd" may-leave "${urls[@]}"
  exit
fi
node=$(hostname | tr '[:upper:]' '[:lower:]')
export KUBECONFIG=/etc/kubernetes/admin.conf
fail() {
  echo "$1" >&2
  exit 1
}
if ! "$kept/etcd" is-left "${urls[@]}"; then
  "$kept/etcd" may-leave "${urls[@]}" || exit 1
  # kubeadm below 1.22 keeps a list of API servers of its own.
  ! kubeadm reset phase update-cluster-status --help >/dev/null 2>&1 || kubeadm reset phase update-cluster-status || exit 1
  # It only warns when it fails.
  kubeadm reset phase remove-etcd-member || exit 1
  for _ in $(seq 30); do
    ! "$kept/etcd" is-left "${urls[@]}" || { is_left=yes; break; }
    sleep 1
  done
  [ -n "${is_left-}" ] || fail 'the member of this node is still in etcd: nothing else was taken away'
fi
# A kubelet that is started again would put its node back.
systemctl stop kubelet.service
for _ in $(seq 30); do
  # The API server of this node has lost its etcd.
  for address in "$@"; do
    kubectl --server="https://$address:$port" --request-timeout=10s delete node "$node" --ignore-not-found && touch "$kept/left" && exit 0
  done
  sleep 2
done
fail "the node cannot be taken off the cluster's list: no API server answers at $*"
