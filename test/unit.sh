#!/bin/bash
# unit.sh LONGS MODULE... - runs the unit tests, those of nested modules last. The race detector is left out of packages in which nothing runs at
# once, tests included, and of the tests in LONGS, NAME|NAME, which take minutes with it: what they run is raced by their neighbours. What takes
# longest comes first, so that no processor waits for it at the end. Lint vets the code.
set -euo pipefail
cd "$(dirname "$0")/.."
longs=$1
shift

# Twice as many at once as there are processors: some tests mostly wait.
tests() { go test -vet=off -p "$((2 * $(nproc)))" "$@"; }

# What runs beside something else.
beside='^\s*go (func\b|[\w.]+\()|\.Go\(|AfterFunc\(|errgroup|t\.Parallel|httptest\.New|\bchan\b|\bsync\.'
raced=(./pkg/populator ./pkg/target ./pkg/source ./pkg/registry ./cmd/importer ./pkg/format ./pkg/format/compress ./pkg/format/qcow2)
long=(./cmd/importer ./pkg/format/compress ./pkg/format/qcow2 ./pkg/populator ./pkg/layer)
calm=()
for folder in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do
  if ! grep -qP "$beside" "$folder"/*.go; then
    calm+=("$folder")
    continue
  fi
  raced+=("$folder")
  if grep -qE "^func Test($longs)\(" "$folder"/*_test.go; then long+=("$folder"); fi
done
tests -race -skip "^Test($longs)\$" "${raced[@]}"
tests "${calm[@]}"
tests -run "^Test($longs)\$" "${long[@]}"
for module; do go test -C "$module" -race ./...; done
