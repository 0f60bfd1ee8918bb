#!/bin/bash
# Joins a cluster, by kubeadm. Arguments: where Lichen keeps what it knows of the node, and further ones for kubeadm join. Standard input: what admit printed on the first node of the control plane.
# `begun` stands there from before the first effect until the node has joined; then `joined` does.
set -euo pipefail
kept=$1
shift
read -r token digest key || [ -n "$token" ]
if [ -z "${digest-}" ]; then
  echo 'there is nothing to join with: the cluster took the node for one of its own; apply again' >&2
  exit 1
fi
socket=$(sed --quiet 's/^ *criSocket: //p' "$kept/join.yaml")
if [ -e "$kept/begun" ] || [ -e "$kept/joined" ]; then
  echo 'the node had joined in part: that is taken away'
  kubeadm reset --force --cri-socket="$socket"
elif [ -e /etc/kubernetes/kubelet.conf ]; then
  echo 'the node is one of a cluster that Lichen has not made: take it out with kubeadm reset' >&2
  exit 1
fi
touch "$kept/begun"
rm --force "$kept/joined"
sync "$kept"
# In memory, and only while kubeadm reads it.
umask 077
configuration=$(mktemp /run/lichen-join.XXXXXX)
trap 'rm --force "$configuration"' EXIT
text=$(<"$kept/join.yaml")
text=${text//@TOKEN@/$token}
text=${text//@DIGEST@/$digest}
printf '%s\n' "${text//@KEY@/$key}" >"$configuration"
options=()
for option in "$@"; do
  # Without a value it was not asked for.
  [ "${option#*=}" = '' ] || options+=("$option")
done
kubeadm join --config="$configuration" "${options[@]}"
mv "$kept/begun" "$kept/joined"
sync "$kept"
