#!/bin/bash
# Brings this node to another version of Kubernetes, by kubeadm. Arguments: where Lichen keeps what it knows of the node, what to do, and the version:
#   is-done VERSION              exit code 0 when kubeadm, the node's part of the control plane and the kubelet that runs are of this version, or the node is in no cluster yet
#   may-be VERSION               exit code 0 when kubeadm may do it: never down, and one minor version at a time
#   run VERSION REVISION PREFLIGHT DRAIN...   does it; kubeadm is of that version already. PREFLIGHT: checks of kubeadm that only warn. DRAIN: how the node is drained
# Whatever it was when it ended, it may be run again: kubeadm's steps are made for that.
set -uo pipefail
kept=$1 verb=$2 version=$3
shift 3
manifest=/etc/kubernetes/manifests/kube-apiserver.yaml
fail() {
  echo "$1" >&2
  exit 1
}
is_member() { { [ -e "$kept/initialised" ] || [ -e "$kept/joined" ]; } && [ -e /etc/kubernetes/kubelet.conf ]; }
# Of the programs that stand on the disk; the one that runs may be older.
installed() { kubelet --version 2>/dev/null | sed --quiet 's/^Kubernetes v//p'; }
# What the node runs, by its own word.
node=$(hostname | tr '[:upper:]' '[:lower:]')
running() { kubectl --kubeconfig=/etc/kubernetes/kubelet.conf get node "$node" --output='jsonpath={.status.nodeInfo.kubeletVersion}' | sed 's/^v//'; }
plane() { sed --quiet 's/^ *image: .*:v//p' "$manifest"; }
has_plane() { ! [ -e "$manifest" ] || [ "$(plane)" = "$version" ]; }
# The kubelet that runs was started after its program was put there.
has_started() { [ "/proc/$(systemctl show --property=MainPID --value kubelet.service)/exe" -ef "$(command -v kubelet)" ]; }
is_done() { [ "$(installed)" = "$version" ] && has_plane && has_started && ! [ -e "$kept/upgrading" ]; }

may_be() {
  local from=$1 from_minor to_minor
  [ -n "$from" ] && [ "$from" != "$version" ] || return 0
  from_minor=$(cut --delimiter=. --fields=2 <<<"$from") to_minor=$(cut --delimiter=. --fields=2 <<<"$version")
  [ "$to_minor" -le $((from_minor + 1)) ] || fail "$node has Kubernetes $from, and $version is $((to_minor - from_minor)) minor versions later: kubeadm upgrades one minor version at a time, so let 1.$((from_minor + 1)) come first"
  [ "$(printf '%s\n' "$from" "$version" | sort --version-sort | tail --lines=1)" = "$version" ] || fail "$node has Kubernetes $from, and $version is older: no cluster goes back to an older version"
}

case "$verb" in
  is-done)
    ! is_member || is_done
    exit
    ;;
  may-be)
    ! is_member || may_be "$(installed)"
    exit
    ;;
esac

revision=$1 preflight=$2
shift 2
is_member || exit 0
may_be "$(installed)"
touch "$kept/upgrading"
sync "$kept"
options=()
[ -z "$preflight" ] || options+=("--ignore-preflight-errors=$preflight")

# A node on which nothing new has been put yet takes pods as before; one that is neither the old nor the new takes none until somebody has looked.
back_out() {
  local code=$?
  trap '' TERM INT HUP
  if [ "$code" != 0 ] && [ "$(installed)" = "$before" ] && [ -z "${is_new-}" ]; then "$kept/drain" "$kept" uncordon; fi
}
before=$(installed)
trap back_out EXIT
trap 'exit 143' TERM INT HUP

# kubeadm writes the kubelet's configuration from the cluster's; the node's own is Lichen's, and says the same and more.
cp --preserve /var/lib/kubelet/config.yaml "$kept/kubelet-config.yaml"
restore() { cmp --silent "$kept/kubelet-config.yaml" /var/lib/kubelet/config.yaml || cp --preserve "$kept/kubelet-config.yaml" /var/lib/kubelet/config.yaml; }
if [ -e "$manifest" ]; then
  export KUBECONFIG=/etc/kubernetes/admin.conf
  # The first node of the control plane that comes to it changes the cluster; the others follow it.
  cluster=$(kubectl --namespace kube-system get configmap kubeadm-config --output='jsonpath={.data.ClusterConfiguration}' | sed --quiet 's/^kubernetesVersion: v//p') || fail 'the cluster does not say which version it has'
  may_be "$cluster"
  "$kept/etcd" health || fail 'etcd has no majority: no node is changed'
  if [ "$cluster" != "$version" ]; then
    kubeadm upgrade plan "v$version" "${options[@]}" || fail 'kubeadm upgrade plan does not agree'
    # The job by which it looks whether pods run goes away on its own time, and kubeadm upgrade apply makes one of the same name.
    for _ in $(seq 60); do
      [ -n "$(kubectl --namespace kube-system get job upgrade-health-check --ignore-not-found --output=name)" ] || break
      sleep 1
    done
    kubeadm upgrade apply "v$version" --yes "${options[@]}" || fail 'kubeadm upgrade apply failed'
  elif ! has_plane; then kubeadm upgrade node "${options[@]}" || fail 'kubeadm upgrade node failed'
  fi
  restore
else
  kubeadm upgrade node "${options[@]}" || fail 'kubeadm upgrade node failed'
  restore
fi

if [ "$(installed)" != "$version" ] || ! has_started; then
  packages=("kubelet=$version$revision" "kubectl=$version$revision")
  apt=(apt-get --yes --quiet --option DPkg::Lock::Timeout=300 --option Dpkg::Use-Pty=0 --option Dpkg::Options::=--force-confold install --no-install-recommends --allow-change-held-packages)
  export DEBIAN_FRONTEND=noninteractive
  # Before anything is taken off the node: a mirror that is away would keep it empty.
  "${apt[@]}" --download-only -- "${packages[@]}" || fail 'the packages cannot be fetched'
  "$kept/drain" "$kept" drain "$@" || exit 1
  "${apt[@]}" -- "${packages[@]}" || fail 'the packages cannot be installed'
  apt-mark hold kubelet kubectl
  is_new=yes
  systemctl daemon-reload
  systemctl restart kubelet.service || fail 'the kubelet does not start'
fi
is_new=yes
for _ in $(seq 240); do
  [ "$(running)" != "$version" ] || ! kubectl --kubeconfig=/etc/kubernetes/kubelet.conf wait --for=condition=Ready --timeout=5s "node/$node" || { is_ready=yes; break; }
  sleep 1
done
[ -n "${is_ready-}" ] || fail "the kubelet $version does not become ready; the node stays cordoned"
"$kept/pod-probe" "$kept" || fail 'the node stays cordoned'
"$kept/drain" "$kept" uncordon || exit 1
rm --force "$kept/upgrading"
