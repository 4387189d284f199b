#!/bin/bash
# fuzz.sh TIME - runs every fuzz test for TIME each. What a test finds is written beside it, below testdata/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rHoP --include='*_test.go' '^func \KFuzz\w+' pkg cmd | while IFS=: read -r file name; do
  echo "== $name in ${file%/*}"
  go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" -fuzzminimizetime 1x "./${file%/*}" </dev/null
done
