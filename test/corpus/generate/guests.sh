#!/bin/bash
# guests.sh - makes in $GUESTS the disks that guests see in the images.
set -euo pipefail
"$(dirname "$0")/guests.py"
cd "$GUESTS"
sfdisk --quiet base.raw <<TABLE
label: dos
label-id: 0x12345678
start=2048, size=6144, type=83, bootable
start=8192, type=ef
TABLE
sfdisk --quiet gpt.raw <<TABLE
label: gpt
label-id: 11111111-2222-3333-4444-555555555555
first-lba: 34
start=8192, size=2048, type=linux, uuid=66666666-7777-8888-9999-AAAAAAAAAAAA, name=root
TABLE
