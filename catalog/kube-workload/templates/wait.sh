#!/bin/bash
# Waits ten seconds for a resource to be rolled out, or for a condition of it, and says what keeps its pods. Arguments: kubeconfig, namespace, KIND/NAME, and the condition as kubectl wait --for takes it.
set -uo pipefail
export KUBECONFIG=$1
namespace=$2 resource=$3 condition=$4
if [ -z "$condition" ]; then wait=(rollout status --timeout=10s "$resource")
else wait=(wait "--for=$condition" --timeout=10s "$resource")
fi
said=$(kubectl --namespace="$namespace" "${wait[@]}" 2>&1) && exit 0
# The pods that it makes; of a pod, itself.
labels=$(kubectl --namespace="$namespace" get "$resource" --output='go-template={{if .spec.selector}}{{range $key, $value := .spec.selector.matchLabels}}{{$key}}={{$value}},{{end}}{{end}}' 2>/dev/null)
pods=()
case "$resource" in
  pod/* | pods/* | po/*) pods=("${resource#*/}") ;;
  *) [[ $labels != *=* ]] || pods=(--selector "${labels%,}") ;;
esac
why=
if [ "${#pods[@]}" != 0 ]; then
  why=$(kubectl --namespace="$namespace" get pods "${pods[@]}" --output='go-template={{define "waits"}}: container {{.name}} ({{.image}}) waits: {{.state.waiting.reason}}{{if .state.waiting.message}}: {{.state.waiting.message}}{{end}}{{"\n"}}{{end}}{{define "pod"}}{{$name := .metadata.name}}{{$node := .spec.nodeName}}{{range .status.conditions}}{{if eq .type "PodScheduled"}}{{if eq .status "False"}}{{$name}} has no node: {{.message}}{{"\n"}}{{end}}{{end}}{{end}}{{range .status.initContainerStatuses}}{{if .state.waiting}}{{$name}} on {{$node}}{{template "waits" .}}{{end}}{{end}}{{range .status.containerStatuses}}{{if .state.waiting}}{{$name}} on {{$node}}{{template "waits" .}}{{end}}{{end}}{{end}}{{if eq .kind "Pod"}}{{template "pod" .}}{{else}}{{range .items}}{{template "pod" .}}{{end}}{{end}}' 2>&1 | sort --unique | head --lines=5)
fi
printf '%s\n' "$(tail --lines=2 <<<"$said")" ${why:+"$why"} >&2
exit 1
