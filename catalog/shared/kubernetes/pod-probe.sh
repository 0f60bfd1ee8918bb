#!/bin/bash
# Whether this node runs pods: it is ready, and a small pod of its own gets an address and runs. The kubelet takes the pod from its directory of manifests and says so to the API: no other credentials
# than its own are needed, no scheduler and no taint has a say. The pod is gone when this ends. Argument: where Lichen keeps what it knows of the node.
set -uo pipefail
kept=$1
export KUBECONFIG=/etc/kubernetes/kubelet.conf
node=$(hostname | tr '[:upper:]' '[:lower:]')
manifests=/etc/kubernetes/manifests
manifest=$manifests/lichen-probe.yaml
pod=lichen-probe-$node
# As long as a kubelet may take that has many pods to start; after a reboot it has all of them.
patienceS=60

exec 9>"$kept/pod-probe.lock"
flock 9
fail() {
  echo "$1" >&2
  exit 1
}
# One that is told when it is ready, in place of many that ask: where nodes are busy with becoming so, each that asks takes time from them. What keeps it from it is asked for afterwards.
kubectl wait "node/$node" --for=condition=Ready --timeout=8s >/dev/null 2>&1
conditions=$(kubectl get node "$node" --output='jsonpath={.status.conditions[?(@.type=="Ready")].status}|{.status.conditions[?(@.type=="Ready")].message}|{.status.nodeInfo.bootID}') || fail 'the API does not answer the kubelet of this node'
# What the cluster knows of the node may be older than its last start.
[ "${conditions##*|}" = "$(cat /proc/sys/kernel/random/boot_id)" ] || fail 'the kubelet has not told the cluster yet that the node has started anew'
[ "${conditions%%|*}" = True ] || fail "the node is not ready: $(cut --delimiter='|' --fields=2 <<<"$conditions")"

# It holds the namespaces of every pod, so it is on each node that runs one.
image=$(ctr --namespace k8s.io images list --quiet | grep --extended-regexp '/pause:[^/]+$' | tail --lines=1)
[ -n "$image" ] || fail 'there is no image of pause on the node'
run=$(cat /proc/sys/kernel/random/uuid)
mkdir --parents "$manifests"
trap 'rm --force "$manifest"' EXIT
trap 'exit 143' TERM INT HUP
cat >"$kept/lichen-probe.yaml" <<END
apiVersion: v1
kind: Pod
metadata: {name: lichen-probe, namespace: kube-system, annotations: {lichen.dev/run: $run}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: probe, image: '$image', imagePullPolicy: IfNotPresent}]
END
mv "$kept/lichen-probe.yaml" "$manifest"
state=
for _ in $(seq $((patienceS * 4))); do
  state=$(kubectl --namespace kube-system get pod "$pod" --ignore-not-found --output="jsonpath={.metadata.annotations.lichen\.dev/run}|{.status.phase}|{.status.podIP}|{.status.containerStatuses[0].state.waiting.message}")
  case "$state" in
    "$run|Running|"?*) break ;;
  esac
  sleep 0.25
done
rm --force "$manifest"
case "$state" in
  "$run|Running|"?*) ;;
  "$run|"*) fail "a pod does not run on this node within $patienceS s: $(cut --delimiter='|' --fields=2,4 <<<"$state")" ;;
  *) fail "the kubelet of this node takes no pod within $patienceS s" ;;
esac
for _ in $(seq 80); do
  [ -n "$(kubectl --namespace kube-system get pod "$pod" --ignore-not-found --output=name)" ] || exit 0
  sleep 0.25
done
fail 'the pod that was run to see that pods run does not end'
