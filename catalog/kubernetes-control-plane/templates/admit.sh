#!/bin/bash
# Who is in the cluster. Arguments: what for, and the names of nodes.
#   is-there       exit code 0 when all of them are in the cluster, and ready; prints nothing that anybody could join with
#   worker         prints what a worker joins with: a token that is valid for an hour, and the digest of the key of the CA
#   control-plane  the same, and the key with which the keys of the cluster are encrypted in it for two hours
#   is-away        exit code 0 when none of them is in the cluster, or there is no cluster
#   dismiss        takes them out of the cluster's list of nodes
set -euo pipefail
purpose=$1
shift
export KUBECONFIG=/etc/kubernetes/admin.conf
names=("${@,,}")
fail() {
  echo "$1" >&2
  exit 1
}
case "$purpose" in
  is-there)
    # One that is not ready may have lost what it joined with.
    ready=$(kubectl get node --ignore-not-found --output='jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}{.status.conditions[?(@.type=="Ready")].status}' "${names[@]}")
    [ "$(grep --count '^True$' <<<"$ready")" = "${#names[@]}" ]
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
words=$(kubeadm token create --ttl=1h --description="Lichen: for ${names[*]}" --print-join-command)
[[ $words =~ --token\ +([a-z0-9]{6}\.[a-z0-9]{16}) ]] || fail 'kubeadm token create printed no token'
token=${BASH_REMATCH[1]}
[[ $words =~ --discovery-token-ca-cert-hash\ +(sha256:[0-9a-f]{64}) ]] || fail "kubeadm token create printed no digest of the CA's key"
digest=${BASH_REMATCH[1]}
key=
if [ "$purpose" = control-plane ]; then
  key=$(kubeadm init phase upload-certs --upload-certs --skip-certificate-key-print=false | grep --extended-regexp '^[0-9a-f]{64}$') || fail 'kubeadm init phase upload-certs printed no key'
fi
echo "$token $digest $key"
