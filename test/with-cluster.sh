#!/bin/bash
# with-cluster.sh COMMAND... - builds Gild's images, puts them where a cluster finds them, and runs COMMAND with KUBECONFIG set.
#
#   KUBECONFIG=FILE REGISTRY=PREFIX   your own cluster and the registry its nodes pull from, such as registry.example/gild
#   (neither)                         the test cluster, a real Kubernetes on this machine; needs root
#   KEEP=1                            leaves the test cluster running, as does a test cluster that runs already
#
# COMMAND finds kubectl on its PATH, and in GILD_IMAGES and GILD_TAG where the images are.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/step.sh

build_images() {
  make --no-print-directory images
  images/image.sh gild-imageserver test/imageserver
  images/image.sh gild-registry test/registry
}

push_images() {
  for name in gild-controller gild-importer gild-imageserver gild-registry; do
    go run ./images/push "$GILD_CACHE/images/$name.tar" "$GILD_IMAGES/$name:$GILD_TAG"
  done
}

finish() {
  local status=$?
  if [ "${KEEP:-}" = 1 ]; then
    echo "== the cluster runs on: export KUBECONFIG=$KUBECONFIG PATH=${KUBECONFIG%/*}/bin:\$PATH; make cluster-down stops it"
  else
    step "stopping the cluster" make --no-print-directory cluster-down || status=1
  fi
  exit $status
}

if [ -n "${KUBECONFIG:-}" ]; then
  export GILD_IMAGES=${REGISTRY:?with your own cluster, name the registry that its nodes pull from: REGISTRY=registry.example/gild}
else
  if [ "$(id -u)" != 0 ]; then
    echo "the test cluster needs root: it makes network devices, mounts and control groups. Run this as root, or on your own" \
      "cluster with KUBECONFIG=FILE REGISTRY=PREFIX" >&2
    exit 1
  fi
  export GILD_IMAGES=127.0.0.1:5000/gild GILD_TEST_CLUSTER=1
  cluster=${GILD_CLUSTER_DIR:-$GILD_CACHE/cluster}
  export KUBECONFIG=$cluster/kubeconfig PATH=$cluster/bin:$PATH
  if go run ./test/cluster status >/dev/null 2>&1; then
    KEEP=1
    echo "== the test cluster runs already"
  fi
  trap finish EXIT
  step "starting a Kubernetes cluster on this machine (its programs are compiled the first time, which takes about 12 minutes)" \
    make --no-print-directory cluster-up
fi
step "building the images" build_images
GILD_TAG=$(cat "$GILD_CACHE"/images/gild-*.tar | sha256sum | cut -c 1-12)
export GILD_TAG
step "pushing them to $GILD_IMAGES" push_images
"$@"
