#!/bin/bash
# copies.sh - installs Gild and measures many claims of one golden image. Called by with-cluster.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/step.sh
step "installing Gild: kubectl apply -k deploy and deploy/cdi, with the images just built" test/demo/deploy.sh
# shellcheck disable=SC2086 # words of flags
go run ./test/copies ${COPIESFLAGS:-}
