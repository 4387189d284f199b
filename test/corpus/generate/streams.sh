#!/bin/bash
# streams.sh - compressed images: whole, cut, damaged, and bombs.
set -euo pipefail
base=$GUESTS/base.raw first=$GUESTS/first rest=$GUESTS/rest
head -c 3M "$base" > "$first"
tail -c +3145729 "$base" > "$rest"

for image in raw-mbr.raw qcow2-v3.qcow2 vmdk-streamOptimized.vmdk vhd-fixed.vhd iso9660.iso; do
  gzip -9nc $image > $image.gz
  xz -6c $image > $image.xz
  zstd -q -19 -c $image > $image.zst
  bzip2 -9c $image > $image.bz2
done

# Several members, frames and streams; options that a reader may not know.
{ gzip -nc "$first"; gzip -nc "$rest"; } > z-gz-two-members.raw.gz
{ bzip2 -c "$first"; bzip2 -c "$rest"; } > z-bz2-two-streams.raw.bz2
{ xz -c "$first"; head -c 8 /dev/zero; xz -c "$rest"; } > z-xz-two-streams-pad.raw.xz
{ zstd -qc "$first"; printf '\x50\x2a\x4d\x18\x05\0\0\0skip!'; zstd -qc "$rest"; } > z-zst-two-frames-skippable.raw.zst
zstd -q --no-check -c "$base" > z-zst-nochecksum.raw.zst
zstd -q -c < "$base" > z-zst-nocontentsize.raw.zst
xz --check=none -c "$base" > z-xz-checknone.raw.xz
xz --check=sha256 -c "$base" > z-xz-sha256.raw.xz
xz -T2 --block-size=1MiB -c "$base" > z-xz-multiblock.raw.xz
gzip -nc qcow2-v3.qcow2.gz > z-nested-gz-gz.qcow2.gz.gz
xz -c qcow2-v3.qcow2.gz > z-nested-xz-gz.qcow2.gz.xz

for kind in gz xz zst bz2; do
  good=raw-mbr.raw.$kind
  size=$(stat -c %s $good)
  head -c $((size / 2)) $good > bad-z-trunc-half.raw.$kind
  head -c $((size - 4)) $good > bad-z-trunc-tail4.raw.$kind
  { cat $good; printf 'trailing garbage!'; } > bad-z-trailing-garbage.raw.$kind
  cp $good bad-z-midflip.raw.$kind
  printf '\xa5\x5a\xa5' | dd of=bad-z-midflip.raw.$kind bs=1 seek=$((size / 2)) conv=notrunc status=none
done
printf '\x1f\x8b\x08\x00' > bad-z-gz-header-only.raw.gz
: > bad-z-empty.raw.gz

# Much out of little, and claims of much memory.
head -c 1G /dev/zero | gzip -9n > bomb-1GiB-zeros.raw.gz
head -c 4G /dev/zero | xz -1 -T2 > bomb-4GiB-zeros.raw.xz
head -c 16G /dev/zero | zstd -q -1 -T2 > bomb-16GiB-zeros.raw.zst
head -c 4G /dev/zero | bzip2 -9 > bomb-4GiB-zeros.raw.bz2
gzip -9nc bomb-1GiB-zeros.raw.gz > bomb-nested-1GiB.raw.gz.gz
zstd -q --ultra -3 --long=31 --no-check -c < "$first" > z-zst-window-2GiB-claimed.raw.zst
xz --format=xz --lzma2=preset=0,dict=1GiB -c "$first" > z-xz-dict-1GiB-claimed.raw.xz
