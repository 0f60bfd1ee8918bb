#!/bin/bash
# Takes the pods off this node, or lets pods come again; with the kubelet's own credentials, so that nobody else's have to be here. Arguments: where Lichen keeps what it knows of the node, and
#   drain SECONDS [--force] [--delete-emptydir-data]   cordons the node and evicts its pods, as their disruption budgets allow. When the time is over, or somebody ends it, the node is uncordoned
#                                                       again, and what is left is named with what keeps it
#   uncordon                                            what `drain` cordoned
#   is-drained                                          exit code 0 when the node is cordoned and has no pod that would have to go
#   is-uncordoned                                       exit code 0 when nothing that `drain` cordoned is left so
# `cordoned` stands there from before this script cordons until it uncordons: a node that a person cordoned stays as it is.
set -uo pipefail
kept=$1 verb=$2 options=
shift 2
export KUBECONFIG=/etc/kubernetes/kubelet.conf
node=$(hostname | tr '[:upper:]' '[:lower:]')
mine=$kept/cordoned

is_cordoned() { [ "$(kubectl get node "$node" --output='jsonpath={.spec.unschedulable}')" = true ]; }

uncordon() {
  [ -e "$mine" ] || return 0
  kubectl uncordon "$node" && rm --force "$mine"
}

# Budgets of a namespace that allow nobody to go now, as: name|healthy|needed|selector.
full_budgets() {
  kubectl get poddisruptionbudgets --namespace "$1" --output='go-template={{range .items}}{{if not .status.disruptionsAllowed}}{{.metadata.name}}|{{.status.currentHealthy}}|{{.status.desiredHealthy}}|{{range $key, $value := .spec.selector.matchLabels}}{{$key}}={{$value}},{{end}}{{range .spec.selector.matchExpressions}}{{if eq .operator "In"}}{{.key}} in ({{range $index, $value := .values}}{{if $index}},{{end}}{{$value}}{{end}}){{else if eq .operator "NotIn"}}{{.key}} notin ({{range $index, $value := .values}}{{if $index}},{{end}}{{$value}}{{end}}){{else if eq .operator "Exists"}}{{.key}}{{else}}!{{.key}}{{end}},{{end}}{{"\n"}}{{end}}{{end}}'
}

budget_of() {
  local budget healthy needed selector
  while IFS='|' read -r budget healthy needed selector; do
    [ -n "$budget" ] || continue
    [ -n "$(kubectl get pods --namespace "$1" --selector "${selector%,}" --field-selector "metadata.name=$2" --output=name)" ] || continue
    echo "its budget $budget lets nobody go ($healthy healthy, $needed needed)"
    return
  done < <(full_budgets "$1")
}

# What is still on the node, each pod with what keeps it, in one line. Pods of DaemonSets and those that the node runs by itself (mirrors) stay by design.
describe_rest() {
  local namespace pod mirror owner ends finalizers grace empty reason text=''
  while IFS='|' read -r namespace pod mirror owner ends finalizers grace empty; do
    [ -n "$pod" ] && [ -z "$mirror" ] && [ "$owner" != DaemonSet ] || continue
    if [ -n "$finalizers" ] && [ -n "$ends" ]; then reason="has ended but for its finalizer ${finalizers% }"
    elif [ -n "$ends" ]; then reason="is ending, and may take $grace s for it (terminationGracePeriodSeconds)"
    elif [ -z "$owner" ] && ! [[ $options == *--force* ]]; then reason='nothing controls it, so it would not come again (drain.force)'
    elif [ -n "$empty" ] && ! [[ $options == *--delete-emptydir-data* ]]; then reason="has local data in ${empty% } (drain.deleteEmptyDirData)"
    else reason=$(budget_of "$namespace" "$pod")
    fi
    text="$text${text:+; }$namespace/$pod: ${reason:-is still there}"
  done < <(kubectl get pods --all-namespaces --field-selector "spec.nodeName=$node" --output='go-template={{range .items}}{{.metadata.namespace}}|{{.metadata.name}}|{{if .metadata.annotations}}{{if index .metadata.annotations "kubernetes.io/config.mirror"}}mirror{{end}}{{end}}|{{range .metadata.ownerReferences}}{{if .controller}}{{.kind}}{{end}}{{end}}|{{if .metadata.deletionTimestamp}}{{.metadata.deletionTimestamp}}{{end}}|{{range .metadata.finalizers}}{{.}} {{end}}|{{if .metadata.deletionGracePeriodSeconds}}{{.metadata.deletionGracePeriodSeconds}}{{end}}|{{range .spec.volumes}}{{$name := .name}}{{range $key, $value := .}}{{if eq $key "emptyDir"}}{{$name}} {{end}}{{end}}{{end}}{{"\n"}}{{end}}')
  echo "$text"
}

give_up() {
  trap '' TERM INT HUP
  [ -z "${child-}" ] || kill "$child" 2>/dev/null
  uncordon
  exit 143
}

drain() {
  local deadline=$1
  shift
  options=$*
  # Somebody has taken it off the list already: what it runs, the cluster no longer counts on.
  [ -n "$(kubectl get node "$node" --ignore-not-found --output=name || echo unknown)" ] || exit 0
  if ! is_cordoned; then
    touch "$mine"
    sync "$kept"
  fi
  trap give_up TERM INT HUP
  # In the background, so that a signal is heard at once.
  kubectl drain "$node" --ignore-daemonsets --timeout="${deadline}s" "$@" &
  child=$!
  wait "$child" && return
  local rest
  rest=$(describe_rest)
  uncordon
  echo "$node cannot be drained (it had $deadline s): ${rest:-no pod is left, but kubectl drain failed}" >&2
  exit 1
}

# A node that is in no cluster (any more) has nothing that anybody would miss.
[ -e "$KUBECONFIG" ] || exit 0
case "$verb" in
  drain) drain "$@" ;;
  uncordon) uncordon ;;
  is-drained) [ -z "$(kubectl get node "$node" --ignore-not-found --output=name || echo unknown)" ] || { is_cordoned && [ -z "$(describe_rest)" ]; } ;;
  is-uncordoned) ! [ -e "$mine" ] ;;
esac
