#!/bin/bash
# raw.sh - disks without a container, and what is no disk at all.
set -euo pipefail
base=$GUESTS/base.raw
cp "$base" raw-mbr.raw
cp "$GUESTS/gpt.raw" raw-gpt.raw
cp "$GUESTS/odd.raw" raw-odd-size-1572941.raw
: > raw-empty-0bytes.raw
printf x > raw-1byte.raw
head -c 511 "$base" > raw-511bytes.raw
head -c 512 "$base" > raw-512bytes.raw
truncate -s 4M raw-zeros-4M.raw
printf '<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please log in</body></html>\n' > raw-html-login-page.img
printf '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}\n' > raw-json-error-body.img

mkdir "$GUESTS/iso"
printf 'hello iso\n' > "$GUESTS/iso/README.TXT"
head -c 300000 "$base" > "$GUESTS/iso/DATA.BIN"
touch -d @1700000000 "$GUESTS"/iso/* "$GUESTS/iso"
SOURCE_DATE_EPOCH=1700000000 xorriso -as mkisofs -quiet --modification-date=2023111422132000 --set_all_file_dates set_to_mtime \
  -uid 0 -gid 0 -V TEST -J -R -o iso9660.iso "$GUESTS/iso" 2>/dev/null
