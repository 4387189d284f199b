#!/bin/bash
# references.sh - images that name other files and servers, or that are encrypted.
set -euo pipefail
backed() { qemu-img create -q -f qcow2 -u -b "$2" -F "$3" "qcow2-backing-$1.qcow2" 8M; }
backed etc-passwd /etc/passwd raw
backed missing base-not-here.qcow2 qcow2
backed json 'json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}' raw
backed nbd-ssrf nbd://127.0.0.1:10809/x raw
backed http-ssrf http://169.254.169.254/latest/meta-data raw

images=$PWD
cd "$GUESTS"
cp base.raw ext.data
qemu-img create -q -f qcow2 -o data_file=ext.data,data_file_raw=on "$images/qcow2-datafile.qcow2" 8M
qemu-img create -q -f qcow2 -o data_file=ext2.data "$images/qcow2-datafile-notraw.qcow2" 8M
cd "$images"

# The guest's own content is a qcow2 with a backing file: one layer is converted, and the result is never probed.
inner=$GUESTS/inner.qcow2
qemu-img create -q -f qcow2 "$inner" 1M
qemu-io -f qcow2 -c 'write -P 9 0 64k' "$inner" >/dev/null
qemu-img rebase -u -f qcow2 -b /etc/passwd -F raw "$inner"
truncate -s 512K "$inner"
qemu-img convert -f raw -O qcow2 "$inner" qcow2-holding-evil-qcow2.qcow2

# LUKS measures the processor's speed, which fails now and then on a busy machine.
secret=secret,id=s,data=pw
try() { local n; for n in 1 2 3 4 5 6 7 8 9; do "$@" 2>/dev/null && return; done; "$@"; }
try qemu-img convert -f raw -O qcow2 --object $secret -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 \
  "$GUESTS/base.raw" qcow2-luks.qcow2
try qemu-img convert -f raw -O qcow2 --object $secret -o encrypt.format=aes,encrypt.key-secret=s "$GUESTS/base.raw" qcow2-aes.qcow2
try qemu-img create -q -f luks --object $secret -o key-secret=s,iter-time=10 luks-v1.raw 1M
