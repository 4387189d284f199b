#!/bin/bash
# end-to-end.sh - the end-to-end tests, run by with-cluster.sh. On the test cluster its own parts are tested, too: the
# storage driver against csi-sanity, and beside the others a pod with both kinds of volume, names, services and network policies.
set -euo pipefail
cd "$(dirname "$0")/.."
. test/step.sh
packages=(./test/e2e/... ./images/build)
if [ "${GILD_TEST_CLUSTER:-}" = 1 ]; then
  step "checking the storage driver with csi-sanity" go run ./test/cluster sanity
  packages=(./test/cluster/smoke "${packages[@]}")
fi
# shellcheck disable=SC2086 # words of flags
go test -tags e2e -count=1 -timeout 40m -v ${TESTFLAGS:-} "${packages[@]}"
