#!/bin/bash
# pod.sh - runs a pod with an image volume and waits until it has ended. Called by with-cluster.sh.
set -euo pipefail
cd "$(dirname "$0")"
size=$(stat -c %s "$GILD_CACHE/images/gild-importer/importer")
kubectl delete pod image-volume --ignore-not-found
sed -E "s,(image|reference): gild-(\w+),\1: $GILD_IMAGES/gild-\2:$GILD_TAG,; s,SIZE,$size," pod.yaml | kubectl apply -f -
kubectl wait pod/image-volume --for=jsonpath='{.status.phase}'=Succeeded --timeout=90s ||
  { kubectl describe pod image-volume; exit 1; }
kubectl get pod image-volume -o wide
