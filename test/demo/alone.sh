#!/bin/bash
# alone.sh - the demo without a cluster: the importer copies the disk from a web server to a file.
set -euo pipefail
cd "$(dirname "$0")/../.."
. test/step.sh
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
test/demo/serve.sh "$DEMO" 127.0.0.1:18080 &

import() {
  rm -f "$DEMO/copy.raw"
  go run ./cmd/importer --source http://127.0.0.1:18080/debian.qcow2 --target "$DEMO/copy.raw" --scratch-dir "$DEMO"
}
compare() {
  sha256sum "$DEMO/debian.raw" "$DEMO/copy.raw"
  cmp "$DEMO/debian.raw" "$DEMO/copy.raw"
}
step "importing http://127.0.0.1:18080/debian.qcow2" import
step "comparing the copy with the source" compare
if [ "${BOOT:-1}" != 0 ]; then
  step "booting the copy with software emulation, to its login prompt (half a minute)" test/demo/boot.sh "$DEMO/copy.raw" "$DEMO/console.log"
fi
