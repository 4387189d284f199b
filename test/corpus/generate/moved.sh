#!/bin/bash
# moved.sh - qcow2 images whose data comes before its tables in the file, small ones and ones with more than 32 MiB to keep:
# written live and then resized, written live around a snapshot, compressed and then resized.
set -euo pipefail

# fill IMAGE FROM COUNT STEP: writes COUNT MiB live, every STEP MiB from FROM on, each with its own byte.
fill() {
  local commands=() n
  for ((n = 0; n < $3; n++)); do commands+=(-c "write -P $((n % 250 + 1)) $(($2 + n * $4))M 1M"); done
  qemu-io -f qcow2 "${commands[@]}" "$1" >/dev/null
}

for kind in small:4 large:48; do
  name=${kind%:*} count=${kind#*:}
  image=qcow2-live-resized-$name.qcow2
  qemu-img create -q -f qcow2 "$image" 1G
  fill "$image" 0 "$count" 20
  qemu-img resize -q -f qcow2 "$image" 40G # the L1 moves to the end of the file
  fill "$image" 20000 4 3000

  image=qcow2-live-snapshot-$name.qcow2
  qemu-img create -q -f qcow2 "$image" 600M
  fill "$image" 0 "$count" 4
  qemu-img snapshot -c before "$image"
  fill "$image" 1 "$count" 4 # the L2 is copied to where the file ends now
  fill "$image" 512 2 4
done

for kind in small:base large:large; do
  image=qcow2-zlib-resized-5T-${kind%:*}.qcow2
  qemu-img convert -c -f raw -O qcow2 "$GUESTS/${kind#*:}.raw" "$image"
  qemu-img resize -q -f qcow2 "$image" 5T
done
