#!/bin/bash
# Renews the certificates that kubeadm made, all of them but those of the CAs, and lets what runs on this node use them: kubeadm leaves that to whoever calls it. Arguments: where Lichen keeps what it
# knows of the node, and `run`, or `is-done`: exit code 0 when that has been done within the last ten minutes, and nothing of it is missing.
set -euo pipefail
kept=$1 verb=$2
if [ "$verb" = is-done ]; then
  ! [ -e "$kept/renewing" ] && [ -n "$(find "$kept/renewed" -mmin -10 2>/dev/null)" ]
  exit
fi
touch "$kept/renewing"
sync "$kept"
kubeadm certs renew all
running() {
  local all id
  all=$(ctr --namespace k8s.io tasks list | awk '$3 == "RUNNING" { print $1 }')
  for id in $(ctr --namespace k8s.io containers list --quiet "labels.\"io.kubernetes.container.name\"==$1"); do [[ $'\n'$all$'\n' != *$'\n'$id$'\n'* ]] || echo "$id"; done
}
# The kubelet starts it again, from the same manifest. What has ended by itself meanwhile will, too.
restart() {
  local before id
  before=$(running "$1")
  [ -n "$before" ] || return 0
  ctr --namespace k8s.io tasks kill --signal SIGTERM "$before" || true
  for try in $(seq 360); do
    # An API server waits for those who watch, for a minute.
    [ "$try" != 20 ] || ctr --namespace k8s.io tasks kill --signal SIGKILL "$before" 2>/dev/null || true
    id=$(running "$1")
    [ -z "$id" ] || [ "$id" = "$before" ] || { echo "$1 was started again" && return 0; }
    sleep 0.5
  done
  echo "$1 does not start again" >&2
  exit 1
}
for name in etcd kube-apiserver kube-controller-manager kube-scheduler; do
  [ -e "/etc/kubernetes/manifests/$name.yaml" ] || continue
  restart "$name"
  for _ in $(seq 120); do
    if "$kept/etcd" health && kubectl --kubeconfig=/etc/kubernetes/admin.conf --request-timeout=5s get --raw=/readyz >/dev/null; then continue 2; fi
    sleep 1
  done
  echo "the API does not answer since $name was started again" >&2
  exit 1
done
touch "$kept/renewed"
sync "$kept"
rm "$kept/renewing"
