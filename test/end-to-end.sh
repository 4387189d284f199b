#!/bin/bash
# end-to-end.sh - the end-to-end tests, run by with-cluster.sh. On the test cluster the cluster's own parts come first: the
# storage driver against csi-sanity, then a pod with both kinds of volume, names, services and network policies.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/step.sh
if [ "${GILD_TEST_CLUSTER:-}" = 1 ]; then
  step "checking the storage driver with csi-sanity" go run ./test/cluster sanity
  step "checking the cluster" go test -tags e2e -count=1 -timeout 10m ./test/cluster/smoke
fi
# shellcheck disable=SC2086 # words of flags
go test -tags e2e -count=1 -timeout 40m -v ${TESTFLAGS:-} ./test/e2e/... ./images/build
