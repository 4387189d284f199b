#!/bin/bash
# make.sh DIR - makes the images that ../MANIFEST.tsv lists, as DIR/images, in about three minutes. Images that are there
# already, made by these very scripts and this qemu-img, are kept. What a guest finds on the disks is the same in every run;
# some containers hold random ids.
set -euo pipefail
scripts=$(realpath "$(dirname "$0")")
mkdir -p "$1"
cd "$1"
mark=$(cat "$scripts"/*.sh "$scripts"/*.py | sha256sum; qemu-img --version | head -n 1)
[ "$(cat made-by 2>/dev/null)" != "$mark" ] || exit 0
rm -rf made-by images wrapped

tmp=$(mktemp -d -p "$PWD")
trap 'rm -rf "$tmp"' EXIT
export GUESTS=$tmp/guests
mkdir "$GUESTS" "$tmp/images"
cd "$tmp/images"
# The order matters: the hostile images are edits of good ones.
for step in guests.sh raw.sh qcow2.sh moved.sh references.sh containers.sh hostile_qcow2.py tables.py polyglots.py \
  hostile_vmdk.py hostile_vhd.py hostile_vhdx.py hostile_vdi.py streams.sh layers.py; do
  "$scripts/$step" || { echo "making the corpus: $step failed" >&2; exit 1; }
done
cd ../..
mv "$tmp/images" images
echo "$mark" > made-by
