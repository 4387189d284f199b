#!/bin/bash
# boot.sh DISK LOG - boots a raw disk under software emulation, without changing it, until it asks for a login on its serial
# console, which is written to LOG. Fails after five minutes.
set -euo pipefail
disk=$1 log=$2
rm -f "$log" # the prompt of an earlier boot proves nothing
qemu-system-x86_64 -accel tcg -m 512 -display none -monitor none -no-reboot -nic none \
  -drive "file=$disk,format=raw,if=virtio,snapshot=on" -serial "file:$log" 2> >(grep -v "terminating on signal" >&2) &
machine=$!
trap 'kill $machine 2>/dev/null || true' EXIT
for _ in $(seq 300); do
  if grep -a 'login:' "$log" 2>/dev/null; then exit 0; fi
  kill -0 $machine
  sleep 1
done
echo "no login prompt within five minutes; the console is in $log" >&2
exit 1
