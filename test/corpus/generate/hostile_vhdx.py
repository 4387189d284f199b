#!/usr/bin/python3
"""hostile_vhdx.py - VHDX images that lie or are cut."""
from images import Maker, get, le32, le64

HEADERS, REGIONS = (64 << 10, 128 << 10), (192 << 10, 256 << 10)
FILE_PARAMETERS = bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b")
VIRTUAL_SIZE = bytes.fromhex("2442a52f1bcd7648b2115dbed83bf4b8")

bad = Maker("vhdx-dynamic.vhdx", "bad-vhdx", "vhdx")
good = bad.good
bad("both-headers-cksum", *[(off + 4, le32(1)) for off in HEADERS])
bad("one-header-cksum", (HEADERS[0] + 4, le32(1)))
bad("region-cksum-both", *[(off + 4, le32(1)) for off in REGIONS])
bad.put("trunc-1M", good[: 1 << 20])
bad.put("trunc-64K", good[: 64 << 10])
bad.put("ident-only", good[:520])

metadata = good.index(b"metadata")
items = {}
for n in range(get("<H", good, metadata + 10)):
    entry = metadata + 32 + 32 * n
    items[bytes(good[entry : entry + 16])] = metadata + get("<I", good, entry + 16)
size, parameters = items[VIRTUAL_SIZE], items[FILE_PARAMETERS]
bad("size-huge", (size, le64(1 << 62)))
bad("size-odd", (size, le64((8 << 20) + 1)))
bad("has-parent", (parameters + 4, le32(get("<I", good, parameters + 4) | 2)))
bad("block-size-0", (parameters, le32(0)))
