#!/bin/bash
# disk.sh DIR - makes a bootable Debian 12 disk from Debian's packages: DIR/debian.raw, and DIR/debian.qcow2 made from it.
# Nothing is mounted and no loop device is used. A disk that is there already, made by this very script, is kept.
set -euo pipefail
script=$(realpath "$0")
mkdir -p "$1"
cd "$1"
key=$(sha256sum < "$script")
[ "$(cat made-by 2>/dev/null)" != "$key" ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "making the disk needs root: Debian's packages are set up in a folder as if it were a machine. Once made, it is kept" >&2
  exit 1
fi
rm -f made-by
tmp=$(mktemp -d -p .)
trap 'rm -rf "$tmp"' EXIT

size=1G             # of the disk
start=2048          # sector of the partition; GRUB fits before it
label=gild-demo     # of the file system, and the host's name

cat > "$tmp/grub.cfg" <<END
serial
terminal_output serial
linux /vmlinuz root=LABEL=$label ro console=ttyS0
initrd /initrd.img
boot
END
echo "LABEL=$label / ext4 defaults 0 1" > "$tmp/fstab"
echo $label > "$tmp/hostname"
mmdebstrap --quiet --variant=minbase --include=linux-image-cloud-amd64,systemd-sysv,udev \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --customize-hook="copy-in $tmp/fstab $tmp/hostname /etc" \
  --customize-hook="mkdir \"\$1/boot/grub\"" --customize-hook="copy-in $tmp/grub.cfg /boot/grub" \
  bookworm "$tmp/root"

# A partition table, a file system filled from the folder, and GRUB in the gap before it: the boot sector expects the rest of
# GRUB in the sectors that follow.
truncate -s $size "$tmp/raw"
echo "start=$start, type=83, bootable" | sfdisk --quiet --label dos "$tmp/raw"
mke2fs -q -t ext4 -L $label -d "$tmp/root" -E offset=$((start * 512)) "$tmp/raw" $(($(stat -c %s "$tmp/raw") / 1024 - start / 2))k
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$tmp/core.img" biosdisk part_msdos ext2 normal linux serial boot
dd status=none conv=notrunc of="$tmp/raw" if=/usr/lib/grub/i386-pc/boot.img bs=440 count=1
dd status=none conv=notrunc of="$tmp/raw" if="$tmp/core.img" seek=1

qemu-img convert -f raw -O qcow2 "$tmp/raw" "$tmp/qcow2"
mv "$tmp/raw" debian.raw
mv "$tmp/qcow2" debian.qcow2
sha256sum < debian.raw | cut -d ' ' -f 1 > debian.raw.sha256
echo "$key" > made-by
