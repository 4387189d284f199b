#!/bin/bash
# prove.sh - proves that the feature gate ImageVolume works from end to end: the API server and the kubelet have it on, and a
# pod reads from an image volume the very bytes that were put into the image. Called by with-cluster.sh.
set -euo pipefail
cd "$(dirname "$0")"
node=$(kubectl get nodes -o jsonpath='{.items[0].metadata.name}')
for path in /metrics "/api/v1/nodes/$node/proxy/metrics"; do
  kubectl get --raw "$path" | grep '^kubernetes_feature_enabled{name="ImageVolume".* 1$'
done
./pod.sh
got=$(kubectl get pod image-volume -o jsonpath='{.status.containerStatuses[0].state.terminated.message}')
want=$(sha256sum "$GILD_CACHE/images/gild-importer/importer" | cut -d ' ' -f 1)
kubectl delete pod image-volume
case $got in
*"$want"*) echo "ImageVolume works: the pod read the file with sha256 $want" ;;
*) echo "the pod read something else: $got, want sha256 $want" >&2; exit 1 ;;
esac
