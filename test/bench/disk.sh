#!/bin/bash
# disk.sh DIR SIZE PACKAGES - makes the disk that is imported, a Debian system of SIZE bytes with PACKAGES, and every source
# form of it in DIR. Nothing is mounted. What is there already, made by this very script, is kept.
set -euo pipefail
script=$(realpath "$0") size=$2 packages=$3
mkdir -p "$1"
cd "$1"
mark=$(sha256sum < "$script"; echo "$size $packages"; qemu-img --version | head -n 1)
[ "$(cat made-by 2>/dev/null)" != "$mark" ] || exit 0
rm -f made-by disk.*
tmp=$(mktemp -d -p "$PWD")
trap 'rm -rf "$tmp"' EXIT

start=2048 # sector of the partition
mmdebstrap --quiet --variant=minbase --include="$packages" bookworm "$tmp/root"
truncate -s "$size" disk.raw
echo "start=$start, type=83" | sfdisk --quiet --label dos disk.raw
mke2fs -q -t ext4 -d "$tmp/root" -E offset=$((start * 512)) disk.raw $((size / 1024 - start / 2))k
rm -rf "$tmp/root"

convert() { local name=$1; shift; qemu-img convert -f raw "$@" disk.raw "disk.$name"; }
convert qcow2 -O qcow2
convert zlib.qcow2 -c -O qcow2
convert zstd.qcow2 -c -O qcow2 -o compression_type=zstd
convert vmdk -O vmdk -o subformat=streamOptimized
convert vhdx -O vhdx -o subformat=dynamic
pigz -c disk.raw > disk.raw.gz
zstd -q -T0 -c disk.raw > disk.raw.zst
xz -T0 -c disk.raw > disk.raw.xz
head -c 1G disk.raw | cp --sparse=always /dev/stdin disk.part.raw
echo "$mark" > made-by
