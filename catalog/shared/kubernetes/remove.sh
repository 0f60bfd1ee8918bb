#!/bin/bash
# Takes Kubernetes off this node. With the argument `is-gone`: exit code 0 when nothing of it is left.
set -uo pipefail
rules() { iptables-save 2>/dev/null | grep --extended-regexp '^[:-].*KUBE-'; }
mounts() { findmnt --list --noheadings --output TARGET | grep '^/var/lib/kubelet/'; }
is_gone() {
  ! [ -e /etc/kubernetes/kubelet.conf ] && ! [ -e /etc/kubernetes/admin.conf ] && ! [ -e /var/lib/etcd/member ] && ! systemctl is-active --quiet kubelet.service && [ -z "$(rules)" ] && [ -z "$(mounts)" ] &&
    ! [ -e /sys/class/net/kube-ipvs0 ] && [ -z "$(find /sys/fs/cgroup -maxdepth 2 -type d -name 'kubepods*' -print -quit)" ]
}
if [ "${1-}" = is-gone ]; then
  is_gone
  exit
fi
socket=unix:///run/containerd/containerd.sock
# A member of etcd that leaves a cluster which stays has left it before; when all go, the last could not. Nor is the API asked for anything, which may be gone with the others.
rm --force /etc/kubernetes/admin.conf
! command -v kubeadm >/dev/null || kubeadm reset --force --cri-socket="$socket" --skip-phases=remove-etcd-member
systemctl stop kubelet.service 2>/dev/null
# Containers take a moment to end, and kube-proxy writes its rules again until then.
for _ in $(seq 30); do
  mounts | sort --reverse | xargs --no-run-if-empty umount
  rm --recursive --force /etc/kubernetes/manifests /etc/kubernetes/pki /etc/kubernetes/*.conf /var/lib/etcd/member
  ip link delete kube-ipvs0 2>/dev/null
  # What kube-proxy and the kubelet wrote: nothing else begins like that.
  for command in iptables ip6tables; do
    ! command -v "$command-save" >/dev/null || "$command-save" | grep --invert-match 'KUBE-' | "$command-restore"
  done
  find /sys/fs/cgroup -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null
  is_gone && exit 0
  sleep 1
done
echo 'something of Kubernetes is left on the node' >&2
exit 1
