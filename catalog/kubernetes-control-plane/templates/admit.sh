#!/bin/bash
# Who is in the cluster. Arguments: what for, and the names of nodes.
#   is-there       exit code 0 when all of them are in the cluster; prints nothing that anybody could join with
#   worker         prints what a worker joins with: a token that is valid for an hour, and the digest of the key of the CA
#   control-plane  the same, and the key with which the keys of the cluster are encrypted in it for two hours
#   is-away        exit code 0 when none of them is in the cluster, or there is no cluster
#   dismiss        takes them out of the cluster's list of nodes
set -euo pipefail
purpose=$1
shift
export KUBECONFIG=/etc/kubernetes/admin.conf
names=("${@,,}")
case "$purpose" in
  is-there)
    [ "$(kubectl get node --ignore-not-found --output=name "${names[@]}" | wc --lines)" = "${#names[@]}" ]
    exit
    ;;
  is-away)
    ! [ -e "$KUBECONFIG" ] || [ -z "$(kubectl get node --ignore-not-found --output=name "${names[@]}")" ]
    exit
    ;;
  dismiss)
    exec kubectl delete node --ignore-not-found "${names[@]}"
    ;;
esac
words=$(kubeadm token create --ttl=1h --description="Lichen: for ${names[*]}" --print-join-command 2>/dev/null)
[[ $words =~ --token\ +([a-z0-9]{6}\.[a-z0-9]{16}) ]]
token=${BASH_REMATCH[1]}
[[ $words =~ --discovery-token-ca-cert-hash\ +(sha256:[0-9a-f]{64}) ]]
digest=${BASH_REMATCH[1]}
key=
if [ "$purpose" = control-plane ]; then
  key=$(kubeadm init phase upload-certs --upload-certs --skip-certificate-key-print=false 2>/dev/null | grep --extended-regexp '^[0-9a-f]{64}$')
fi
echo "$token $digest $key"
