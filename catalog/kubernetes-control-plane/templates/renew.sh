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
containers() { ctr --namespace k8s.io containers list --quiet "labels.\"io.kubernetes.container.name\"==$1"; }
# The kubelet starts it again, from the same manifest.
restart() {
  local before id
  before=$(containers "$1")
  for id in $before; do ctr --namespace k8s.io tasks kill --signal SIGTERM "$id" 2>/dev/null || true; done
  for _ in $(seq 240); do
    for id in $(containers "$1"); do
      [[ " ${before//$'\n'/ } " == *" $id "* ]] || ! ctr --namespace k8s.io tasks list --quiet | grep --quiet --line-regexp "$id" || { echo "$1 was started again" && return; }
    done
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
