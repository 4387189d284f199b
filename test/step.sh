# step.sh - sourced by the scripts beside it: step TEXT COMMAND... runs a step, says what it does and how long it took.
# shellcheck shell=bash
step() {
  local text=$1 start=$SECONDS
  shift
  echo "== $text"
  "$@"
  echo "   done in $((SECONDS - start)) s"
}
