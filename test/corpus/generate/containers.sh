#!/bin/bash
# containers.sh - the formats beside raw and qcow2.
set -euo pipefail
convert() { local format=$1 name=$2; shift 2; qemu-img convert -f raw -O "$format" "$@" "$GUESTS/base.raw" "$name"; }
vmdk() { convert vmdk "vmdk-$1.vmdk" -o "subformat=$2"; }

convert qcow qcow1.qcow
convert qed qed.qed
convert parallels parallels.hdd

for kind in monolithicSparse streamOptimized monolithicFlat twoGbMaxExtentSparse twoGbMaxExtentFlat; do vmdk $kind $kind; done
vmdk sparse-zeroedgrain monolithicSparse,zeroed_grain=on
vmdk sparse-compat6 monolithicSparse,compat6=on
vmdk streamOptimized-hw13 streamOptimized,hwversion=13,adapter_type=lsilogic

for kind in dynamic fixed; do
  convert vpc vhd-$kind.vhd -o subformat=$kind,force_size=on
  convert vpc vhd-$kind-chs.vhd -o subformat=$kind # the size is rounded up to the old disk geometry
  convert vhdx vhdx-$kind.vhdx -o subformat=$kind
done
convert vhdx vhdx-dynamic-1M.vhdx -o subformat=dynamic,block_size=1M
convert vdi vdi-dynamic.vdi
convert vdi vdi-static.vdi -o static=on
