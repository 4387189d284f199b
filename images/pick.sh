#!/bin/bash
# pick.sh ROOT LIST OUT.tar - called by rootfs.sh while ROOT holds the unpacked packages and the packages themselves.
set -euo pipefail
export LC_ALL=C
cd "$1"
list=$2 out=$3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp/tree/tmp" "$tmp/tree/var/lib/dpkg/status.d"

# update-ca-certificates does not run in an unpacked tree; this is the bundle it would make.
mkdir -p etc/ssl/certs
find usr/share/ca-certificates -name '*.crt' | sort | xargs cat > etc/ssl/certs/ca-certificates.crt

# libraries FILE prints what the dynamic linker of this root, not of the host, would load for FILE, and the linker itself.
libraries() {
  local linker=(lib*/ld-linux*.so.*)
  [ -e "${linker[0]}" ] && "${linker[0]}" --verify "$1" || return 0
  echo "${linker[0]}"
  "${linker[0]}" --library-path "$(printf '%s:' "$PWD"/lib/*-linux-gnu "$PWD"/usr/lib/*-linux-gnu)" --list "$1" |
    sed -n "s,.*=> $PWD/\([^ ]*\) .*,\1,p"
}
awk '!/^#/ {print substr($2, 2)}' "$list" | while read -r pattern; do
  file=$(compgen -G "$pattern")
  echo "$file"
  libraries "$file"
done | sort -u > "$tmp/files"

# The licence of each package that gave a file, and its control file where scanners of images without dpkg look for it.
for deb in var/cache/apt/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's,^\./,,' | sort > "$tmp/owned"
  name=$(dpkg-deb -f "$deb" Package)
  if grep -q "^$name " "$list" || [ -n "$(comm -12 "$tmp/files" "$tmp/owned")" ]; then
    dpkg-deb -f "$deb" > "$tmp/tree/var/lib/dpkg/status.d/$name"
    echo "usr/share/doc/$name/copyright" >> "$tmp/licences"
  fi
done

cat "$tmp/files" "$tmp/licences" | xargs cp -L --parents -t "$tmp/tree"
find "$tmp/tree" -type d -exec chmod 755 {} +
chmod 1777 "$tmp/tree/tmp"
tar -C "$tmp/tree" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$out" .
