#!/bin/bash
# rootfs.sh LIST OUT.tar - makes the root filesystem of an image from Debian 12 packages, for the ADD of its Dockerfile.
# LIST names packages and the files wanted of each; nothing else gets in but the shared libraries those files load, the
# licences, and one control file per package for image scanners. The same package versions give the same bytes.
# Root is not needed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
list=$(realpath "$1") out=$(realpath "$2")

packages=$(awk '!/^#/ {print $1}' "$list" | paste -sd,)
mode=root
[ "$(id -u)" = 0 ] || mode=chrootless
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# format=null: the hook takes what it wants out of the unpacked packages, the rest is thrown away.
if ! mmdebstrap --variant=extract --mode=$mode --format=null --include="$packages" \
  --extract-hook="'$here/pick.sh' \"\$1\" '$list' '$out'" bookworm >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
