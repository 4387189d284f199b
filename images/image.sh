#!/bin/bash
# image.sh NAME FOLDER - builds the image NAME from FOLDER/Dockerfile into $GILD_CACHE/images/NAME.tar, with Docker when an
# engine answers, else without it. Each program the Dockerfile copies is a Go command: cmd/PROGRAM, or FOLDER itself, which may
# be a module of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1 folder=$2
out=$GILD_CACHE/images
context=$out/$name
mkdir -p "$context"

awk '$1 == "COPY" {print $2}' "$folder/Dockerfile" | while read -r program; do
  module=. package=./cmd/$program
  [ -d "$package" ] || package=./$folder
  if [ -f "$folder/go.mod" ]; then module=$folder package=.; fi
  CGO_ENABLED=0 go build -C "$module" -tags containers_image_openpgp -trimpath -buildvcs=false -ldflags '-s -w' -o "$context/$program" "$package"
done

# A root filesystem is made once per recipe; `make clean` takes Debian's updates.
if [ -f "$folder/rootfs" ]; then
  rootfs=$out/rootfs-$(cat "$folder/rootfs" images/rootfs.sh images/pick.sh | sha256sum | cut -c 1-16).tar
  if [ ! -f "$rootfs" ]; then
    images/rootfs.sh "$folder/rootfs" "$rootfs.part"
    mv "$rootfs.part" "$rootfs"
  fi
  ln -f "$rootfs" "$context/rootfs.tar"
fi

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
if docker info >/dev/null 2>&1; then
  docker build --quiet --file "$folder/Dockerfile" --tag "$name:latest" "$context" >/dev/null
  docker save --output "$out/$name.part" "$name:latest"
  how=Docker
else
  go run ./images/build -file "$folder/Dockerfile" -context "$context" -tag "$name:latest" -output "$out/$name.part" >/dev/null
  how=images/build
fi
mv "$out/$name.part" "$out/$name.tar"
echo "$name: $(du -h "$out/$name.tar" | cut -f 1)iB, built by $how: $out/$name.tar"
