#!/usr/bin/python3
"""hostile_vdi.py - VDI images that lie or are cut."""
from images import Maker, le32, le64

BLOCK_MAP = 512
bad = Maker("vdi-dynamic.vdi", "bad-vdi", "vdi")
good = bad.good
bad("type-diff", (76, le32(4)))
bad("blocks-huge", (384, le32(0xFFFFFFFF)), (368, le64(1 << 52)))
bad("size-vs-blocks", (368, le64(1 << 40)))
bad("block-size-512", (376, le32(512)))
bad("parent-uuid", (424, b"\x22" * 16))
bad("bmap-entry-beyond", (BLOCK_MAP, le32(0x00FFFFFF)))
bad("bmap-dup", (BLOCK_MAP + 4, good[BLOCK_MAP : BLOCK_MAP + 4]))
bad.put("trunc-half", good[: len(good) // 2])
bad.put("header-only", good[:512])
