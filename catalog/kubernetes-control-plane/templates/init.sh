#!/bin/bash
# Makes the cluster on this node, by kubeadm. Arguments: where Lichen keeps what it knows of the node, and further ones for kubeadm init.
# `begun` stands there from before the first effect until the cluster is complete; then `initialised` does.
set -euo pipefail
kept=$1
shift
configuration=$kept/kubeadm.yaml
socket=$(sed --quiet 's/^ *criSocket: //p' "$configuration")
if [ -e "$kept/begun" ]; then
  echo 'the cluster was begun and not completed: it is taken away and made anew'
  kubeadm reset --force --cri-socket="$socket"
elif [ -e /etc/kubernetes/admin.conf ] || [ -e /var/lib/etcd/member ]; then
  echo 'the node is one of a cluster that Lichen has not made: take it out with kubeadm reset' >&2
  exit 1
fi
# Whoever gives a name and a password is nobody to it, and may ask for the version.
endpoint=$(sed --quiet 's/^controlPlaneEndpoint: //p' "$configuration")
if kubectl --kubeconfig=/dev/null --username=nobody --password=nobody --server="https://$endpoint" --insecure-skip-tls-verify --request-timeout=5s get --raw=/version >/dev/null 2>&1 </dev/null; then
  echo "a cluster answers at $endpoint already: this node would make another one; take $endpoint from it, or let the nodes that have it come first in the plan" >&2
  exit 1
fi
touch "$kept/begun"
sync "$kept"
options=()
for option in "$@"; do
  # Without a value it was not asked for.
  [ "${option#*=}" = '' ] || options+=("$option")
done
kubeadm init --config="$configuration" "${options[@]}" --skip-token-print
mv "$kept/begun" "$kept/initialised"
sync "$kept"
