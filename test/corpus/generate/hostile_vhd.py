#!/usr/bin/python3
"""hostile_vhd.py - VHD images that lie or are cut."""
from images import Maker, be32, be64, edited, get, read

FOOTER = 512
HEADER = 512  # offset of the dynamic header, which has 1024 bytes


def signed(data, start, length, at):
    """data with the checksum over length bytes from start put at offset at."""
    data = edited(data, (at, bytes(4)))
    return edited(data, (at, be32(~sum(data[start : start + length]) & 0xFFFFFFFF)))


def with_footer(data, start):
    return signed(data, start, FOOTER, start + 64)


bad = Maker("vhd-dynamic.vhd", "bad-vhd", "vhd")
good = bad.good
end = len(good) - FOOTER
bad("header-cksum", (HEADER + 36, be32(1)))
bad("footer-cksum-both", (64, be32(1)), (end + 64, be32(1)))
bad("bat-entry-beyond-eof", (get(">Q", good, HEADER + 16), be32(0x7FFFFFF0)))
bad.put("trunc-half", good[: len(good) // 2])
bad.put("no-end-footer", good[:end])

# Lies with right checksums.
for name, edits in (
    ("bat-entries-huge", [(HEADER + 28, be32(0xFFFFFFFF))]),
    ("block-size-0", [(HEADER + 32, be32(0))]),
    ("block-size-odd", [(HEADER + 32, be32(1000))]),
    ("parent-set", [(HEADER + 40, b"\x11" * 16), (HEADER + 64, "parent".encode("utf-16-le"))]),
):
    bad.put(name, signed(edited(good, *edits), HEADER, 1024, HEADER + 36))
differencing = edited(good, (60, be32(4)), (end + 60, be32(4)))
bad.put("type-differencing", with_footer(with_footer(differencing, 0), end))

fixed = read("vhd-fixed.vhd")
end = len(fixed) - FOOTER
bad.put("fixed-footer-only", fixed[end:])
bad.put("fixed-size-lies", with_footer(edited(fixed, (end + 48, be64(1 << 50))), end))
