#!/bin/bash
# qcow2.sh - every kind of qcow2 that qemu makes and the importer reads.
set -euo pipefail
base=$GUESTS/base.raw
convert() { local name=$1; shift; qemu-img convert -f raw -O qcow2 "$@" "$base" "qcow2-$name.qcow2"; }
io() { local name=$1 commands=(); shift; for c in "$@"; do commands+=(-c "$c"); done; qemu-io -f qcow2 "${commands[@]}" "qcow2-$name.qcow2" >/dev/null; }

convert v2 -o compat=0.10
convert v3 -o compat=1.1
for size in 512 4096 65536 1M 2M; do convert v3-cluster-$size -o cluster_size=$size; done
convert v2-cluster-512 -o compat=0.10,cluster_size=512
for bits in 1 8 64; do convert refbits-$bits -o refcount_bits=$bits; done
for kind in metadata falloc full; do convert prealloc-$kind -o preallocation=$kind; done
convert lazy -o lazy_refcounts=on

convert zlib -c
convert v2-zlib -c -o compat=0.10
convert zlib-cluster-512 -c -o cluster_size=512
convert zlib-cluster-2M -c -o cluster_size=2M
convert zstd -c -o compression_type=zstd
convert zstd-cluster-2M -c -o compression_type=zstd,cluster_size=2M

convert extl2 -o extended_l2=on
convert extl2-128k -o extended_l2=on,cluster_size=128k
convert extl2-zstd -c -o extended_l2=on,compression_type=zstd
convert extl2-subzero -o extended_l2=on
io extl2-subzero 'write -z 1032k 6k' 'write -P 3 2M 2k' 'write -z -u 4098k 4k'

convert zeroclusters
io zeroclusters 'write -z 1M 1M' 'discard 6M 64k' 'write -z -u 4M 512k'
convert snapshots
qemu-img snapshot -c s1 qcow2-snapshots.qcow2
io snapshots 'write -P 0x5a 2M 128k'
qemu-img snapshot -c s2 qcow2-snapshots.qcow2
io snapshots 'write -z 4M 1M' 'write -P 0x77 1M 4k'
convert bitmap
qemu-img bitmap --add qcow2-bitmap.qcow2 b0
io bitmap 'write -P 1 7M 64k'

qemu-img create -q -f qcow2 qcow2-empty-8M.qcow2 8M
qemu-img create -q -f qcow2 qcow2-zero-size.qcow2 0
qemu-img convert -f raw -O qcow2 "$GUESTS/odd.raw" qcow2-odd-size.qcow2 # qemu rounds the size up to a sector
qemu-img create -q -f qcow2 qcow2-sparse-64G.qcow2 64G
io sparse-64G 'write -P 0xab 63G 64k' 'write -P 0xcd 0 4k'
qemu-img create -q -f qcow2 -o cluster_size=2M qcow2-valid-1EiB.qcow2 1E # its L1 is 16 MiB of zeros
