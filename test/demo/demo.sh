#!/bin/bash
# demo.sh - the whole story on this machine: makes a Debian disk, serves it, starts a cluster, has Gild fill a Filesystem and a
# Block claim with it, and one more from a registry, proves all, and follows a file that changes. BOOT=0 skips the boot, KEEP=1 keeps the cluster.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/step.sh
begin=$SECONDS
export DEMO=$GILD_CACHE/demo
unset KUBECONFIG REGISTRY

step "making a bootable Debian disk (once, about two minutes)" test/demo/disk.sh "$DEMO"
if [ "$(id -u)" = 0 ]; then
  test/with-cluster.sh test/demo/cluster.sh
else
  echo "== the cluster needs root: it makes network devices, mounts and control groups. Without it, the importer runs alone"
  test/demo/alone.sh
fi
echo "== the demo took $((SECONDS - begin)) s"
