#!/bin/bash
# The members of the cluster's own etcd, as it says of them itself. kubectl speaks to it: it is the one program on every node of the control plane that takes client certificates. Arguments:
#   health      exit code 0 when most members are healthy; says who is not
#   may-stop    exit code 0 when the others are enough while this one is away for a while (a control plane of one node is away with it)
#   may-leave URL...   exit code 0 when those that would be left are enough, and one that has lost too many of them already could still agree to it
#   is-left URL...     exit code 0 when this node is no member (any more)
# URLs are those of others, which know it when this one does not answer.
# Without a member on this node (an etcd outside of the cluster) all of it is so.
set -uo pipefail
verb=$1
shift
certificates=/etc/kubernetes/pki/etcd
node=$(hostname | tr '[:upper:]' '[:lower:]')
# What the API server of this node asks says it; that the member does not run, does not make it none.
grep --quiet -- '--etcd-servers=https://127.0.0.1:2379' /etc/kubernetes/manifests/kube-apiserver.yaml 2>/dev/null || exit 0
ask() {
  local url=$1
  shift
  kubectl --kubeconfig=/dev/null --server="$url" --certificate-authority="$certificates/ca.crt" --client-certificate="$certificates/healthcheck-client.crt" --client-key="$certificates/healthcheck-client.key" --request-timeout=5s "$@"
}
list_members() {
  local url
  for url in https://127.0.0.1:2379 "$@"; do
    ask "$url" create --raw=/v3/cluster/member/list --filename=- <<<'{}' 2>/dev/null && return
  done
  echo 'no member of etcd says who the members are' >&2
  return 1
}
# name|url of each member; one that has never started has no name.
members=$(list_members "$@" | grep --only-matching --extended-regexp '\{"ID"[^{}]*\}' | sed --regexp-extended 's/.*"name":"([^"]*)".*"clientURLs":\["([^"]*)".*/\1|\2/; t; s/.*/|/') && [ -n "$members" ] || exit 1
all=0 well=0 others=0 ill=() is_member=
while IFS='|' read -r name url; do
  all=$((all + 1))
  [ "$name" != "$node" ] || is_member=yes
  if [ -n "$url" ] && [[ $(ask "$url" get --raw=/health 2>/dev/null) == *'"health":"true"'* ]]; then
    well=$((well + 1))
    [ "$name" = "$node" ] || others=$((others + 1))
  else ill+=("${name:-one that has not started}")
  fi
done <<<"$members"
state="$well of $all healthy${ill:+ (not ${ill[*]})}"
# How many of so many must agree.
most() { echo $(($1 / 2 + 1)); }
fail() {
  echo "$1" >&2
  exit 1
}
case "$verb" in
  health)
    [ "${#ill[@]}" = 0 ] || echo "members of etcd: $state" >&2
    [ "$well" -ge "$(most "$all")" ]
    ;;
  may-stop) [ "$all" = 1 ] || [ "$others" -ge "$(most "$all")" ] || fail "etcd would stop with $node: members are $state, $others without $node, and $(most "$all") of $all must agree" ;;
  may-leave)
    [ -n "$is_member" ] || exit 0
    [ "$all" -gt 1 ] || fail "$node is the only member of etcd: the cluster would be gone with it"
    [ "$well" -ge "$(most "$all")" ] || fail "etcd has no majority: members are $state, and $(most "$all") must agree before anybody can leave"
    [ "$others" -ge "$(most $((all - 1)))" ] || fail "$node cannot leave etcd: members are $state; of the $((all - 1)) that would be left $others would be healthy, and $(most $((all - 1))) must be"
    ;;
  is-left) [ -z "$is_member" ] ;;
esac
