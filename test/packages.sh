#!/bin/bash
# packages.sh RECIPE - installs the Debian packages that a recipe of the Makefile needs and that are missing. Says which and
# why. Without root it says what to install and fails.
set -euo pipefail

# recipe     package        why
table='
unit         gcc            compiles the race detector
unit         libc6-dev      compiles the race detector
unit         qemu-utils     qemu-img, the reference of every disk format
unit         xz-utils       the reference of xz streams
unit         zstd           the reference of zstd streams
unit         bzip2          the reference of bzip2 streams
unit         nginx-light    a server that others wrote
unit         e2fsprogs      makes and reads file systems
corpus       qemu-utils     qemu-img and qemu-io, make the images
corpus       python3        edits good images into hostile ones
corpus       xorriso        makes ISOs
corpus       fdisk          sfdisk, partition tables
corpus       xz-utils       packs images
corpus       zstd           packs images
corpus       bzip2          packs images
bench        mmdebstrap     makes the Debian disk
bench        e2fsprogs      mke2fs, the filesystem of the disk
bench        fdisk          sfdisk, the partition table of the disk
bench        qemu-utils     qemu-img, a peer
bench        nbdkit         a peer
bench        curl           a peer
bench        nginx-light    the server
bench        pigz           a peer
bench        zstd           a peer
bench        xz-utils       a peer
bench        skopeo         a peer
images       mmdebstrap     makes root filesystems from Debian packages
e2e          qemu-utils     qemu-img, makes and reads disks
e2e          xz-utils       packs images
e2e          zstd           packs images
e2e          e2fsprogs      e2fsck and debugfs, read file systems
verify       git            tells whether the tree is clean
demo         mmdebstrap     makes the Debian disk
demo         e2fsprogs      mke2fs, the filesystem of the disk
demo         fdisk          sfdisk, the partition table of the disk
demo         grub-common    grub-mkimage, the boot loader of the disk
demo         grub-pc-bin    the modules of the boot loader
demo         qemu-utils     qemu-img, the qcow2 form of the disk
demo         qemu-system-x86  boots the disk
demo         nginx-light    serves the disk
'
missing=()
while read -r recipe package why; do
  [ "$recipe" = "$1" ] || continue
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] && continue
  echo "needs the Debian package $package: $why"
  missing+=("$package")
done <<<"$table"
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "installing packages needs root; as root run: apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

# A package that brings a service must not start it: Debian asks this file.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
  trap 'rm -f $policy' EXIT
fi
start=$SECONDS
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq --yes --no-install-recommends install "${missing[@]}" >/dev/null
# Nor shall the service start with the machine.
if [[ " ${missing[*]} " == *" nginx-light "* && -d /run/systemd/system ]]; then systemctl --quiet disable nginx; fi
echo "installed ${#missing[@]} packages in $((SECONDS - start)) s"
