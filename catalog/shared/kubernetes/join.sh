#!/bin/bash
# Joins a cluster, by kubeadm. Arguments: where Lichen keeps what it knows of the node, and further ones for kubeadm join. Standard input: what admit printed on the first node of the control plane.
# A token that the cluster does not know (any more), and a clock that differs from the cluster's, are refused before anything is changed.
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
# What the cluster says to anybody: which tokens are valid, each as a signature by it (kubeadm's discovery), and in the head of the answer what time it is there.
endpoint=$(sed --quiet 's/^ *apiServerEndpoint: //p' "$kept/join.yaml")
answer=$(mktemp /run/lichen-join.XXXXXX)
trap 'rm --force "$answer" "$answer.head"' EXIT
problems=()
# A token that was made a moment ago is signed a moment later; in a cluster that was made a moment ago, half a minute later. Where others are signed, nobody is late.
for left in $(seq 60 -1 0); do
  kubectl --kubeconfig=/dev/null --username=nobody --password=nobody --server="https://$endpoint" --insecure-skip-tls-verify --request-timeout=5s --v=8 get --raw=/api/v1/namespaces/kube-public/configmaps/cluster-info >"$answer" 2>"$answer.head" </dev/null || :
  ! grep --quiet --fixed-strings "jws-kubeconfig-${token%%.*}\"" "$answer" || break
  [ "$left" = 0 ] || { [ "$left" -le 55 ] && grep --quiet jws-kubeconfig- "$answer"; } || { sleep 1; continue; }
  if [ -s "$answer" ]; then problems+=("the cluster at $endpoint does not know the token that $(hostname) was to join with (any more; it was valid for an hour): the next apply makes a new one")
  else problems+=("the cluster at $endpoint does not answer: $(tail --lines=1 "$answer.head")")
  fi
  break
done
there=$(grep --only-matching --extended-regexp 'Date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT' "$answer.head" | tail --lines=1 | cut --characters=7-) || :
if [ -n "$there" ]; then
  ahead=$(($(date +%s) - $(date --date="$there" +%s)))
  [ "${ahead#-}" -le 300 ] || problems+=("the clock of $(hostname) says $(date --utc +%FT%TZ), and that of the cluster at $endpoint $(date --utc --date="$there" +%FT%TZ): let it be set (systemd-timesyncd, chrony)")
fi
rm --force "$answer" "$answer.head"
if [ "${#problems[@]}" != 0 ]; then
  printf '%s\n' "${problems[@]}" >&2
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
