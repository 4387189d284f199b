#!/bin/bash
# fuzz.sh TIME - runs every fuzz test for TIME each, two at once for each processor: they start slowly. What a test finds is written
# beside it, below testdata/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
one() {
  local output
  output=$(go test -run '^$' -fuzz "^$2\$" -fuzztime "$TIME" -fuzzminimizetime 1x -parallel 1 "./${1%/*}" </dev/null 2>&1) || ended "$output" || {
    printf '== %s in %s\n%s\n' "$2" "${1%/*}" "$output"
    return 1
  }
  printf '== %s in %s: %s\n' "$2" "${1%/*}" "$(grep '^fuzz: ' <<<"$output" | tail -n 1)"
}
# ended tells the end of the time alone, which Go before 1.27 may call a failure (go.dev/issue/75804). What a test found is an input.
ended() { [[ $1 == *$'\n    context deadline exceeded\n'* && $1 != *'Failing input written'* && $1 != *'panic:'* ]]; }
export -f one ended
export TIME=$1
grep -rHoP --include='*_test.go' '^func \KFuzz\w+' pkg cmd | tr ':' ' ' | xargs -P "$((2 * $(nproc)))" -L 1 bash -euo pipefail -c 'one "$@"' one
