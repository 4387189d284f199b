#!/bin/bash
# layers.sh DIR - packs DIR/disk.qcow2 as the layer of a container disk, in every packing, in DIR/layers. What is there already,
# made from this disk by this very script, is kept.
set -euo pipefail
script=$(realpath "$0")
cd "$1"
mark=$(cat "$script" made-by | sha256sum)
[ "$(cat layers/made-by 2>/dev/null)" != "$mark" ] || exit 0
rm -rf layers
mkdir layers
tar --create --file layers/disk.tar --owner 107 --group 107 --transform 's,^,disk/,' disk.qcow2
pigz -c layers/disk.tar > layers/disk.tar.gz
zstd -q -T0 -c layers/disk.tar > layers/disk.tar.zst
echo "$mark" > layers/made-by
