#!/usr/bin/python3
"""hostile_qcow2.py - qcow2 images that lie or are cut."""
import struct
import zlib

from images import Maker, be32, be64, edited, get, read, write

CLUSTER = 65536
OFFSET = 0x00FFFFFFFFFFFE00  # the offset in an L1 or L2 entry
COPIED = 1 << 63
COMPRESSED = 1 << 62


def tables(data):
    """Offsets of the L1 table and of its first L2 table."""
    l1 = get(">Q", data, 40)
    return l1, get(">Q", data, l1) & OFFSET


def entries(data, l2):
    return [get(">Q", data, l2 + 8 * i) for i in range(128)]


bad = Maker("qcow2-v3.qcow2", "bad-qcow2", "qcow2")
good = bad.good
l1, l2 = tables(good)
used = [i for i, e in enumerate(entries(good, l2)) if e]
one, two = l2 + 8 * used[1], entries(good, l2)[used[2]]

# Cut.
for size in (3, 16, 71, 72, 103, 104, 512, CLUSTER, l1 + 4, l2 + 4, len(good) // 2, len(good) - CLUSTER, len(good) - 1):
    bad.put(f"trunc-{size}", good[:size])

# The header.
bad("version-0", (4, be32(0)))
bad("version-1-header", (4, be32(1)))
bad("version-4", (4, be32(4)))
bad("backing-off-beyond-cluster", (8, be64(1 << 40)), (16, be32(10)))
bad("backing-size-2000", (8, be64(0x400)), (16, be32(2000)))
for bits in (8, 22, 63):
    bad(f"cluster-bits-{bits}", (20, be32(bits)))
bad("size-1EiB-small-l1", (24, be64(1 << 60)))
bad("size-max-u64", (24, be64((1 << 64) - 1)))
bad("size-minus-l1-overflow", (24, be64((1 << 63) - 512)))
bad("crypt-method-99", (32, be32(99)))
bad("crypt-method-aes-set", (32, be32(1)))
bad("l1-size-4G", (36, be32(0xFFFFFFFF)))
bad("l1-size-0", (36, be32(0)))
bad("l1-off-unaligned", (40, be64(l1 + 1)))
bad("l1-off-beyond-eof", (40, be64(1 << 50)))
bad("l1-off-overflow", (40, be64((1 << 64) - CLUSTER)))
bad("refcount-table-huge", (56, be32(0xFFFFFFFF)))
bad("nb-snapshots-huge", (60, be32(0xFFFFFFFF)))
bad("snapshots-off-beyond", (60, be32(2)), (64, be64(1 << 45)))
bad("flag-dirty", (72, be64(1)))
bad("flag-corrupt", (72, be64(2)))
bad("incompat-datafile-bit-no-name", (72, be64(1 << 2)))
bad("compression-type-7", (72, be64(1 << 3)), (104, b"\x07"))
bad("incompat-unknown-bit5", (72, be64(1 << 5)))
bad("incompat-unknown-bit63", (72, be64(1 << 63)))
bad("compat-unknown", (80, be64(1 << 40)))
bad("autoclear-unknown", (88, be64(1 << 40)))
bad("refcount-order-7", (96, be32(7)))
bad("header-length-8", (100, be32(8)))
bad("header-length-huge", (100, be32(1 << 31)))
extensions = get(">I", good, 100)
bad("hdr-ext-huge-len", (extensions, be32(0x6803F857) + be32(0xFFFFFF00)))
bad("hdr-ext-unknown", (extensions, be32(0xDEADBEEF) + be32(8) + b"whatever" + be32(0) + be32(0)))

# The tables.
bad("l1-entry-beyond-eof", (l1, be64(COPIED | 1 << 40)))
bad("l1-entry-unaligned", (l1, be64(COPIED | l2 + 512)))
bad("l1-entry-reserved-bits", (l1, be64(COPIED | l2 | 1 << 56 | 1)))
bad("l2-entry-beyond-eof", (one, be64(COPIED | 1 << 45)))
bad("l2-entry-unaligned", (one, be64(COPIED | 0x50200)))
bad("l2-entry-points-to-header", (one, be64(COPIED)))
bad("l2-entry-points-to-l2", (one, be64(COPIED | l2)))
bad("l2-two-to-one", (one, be64(two)))
bad("l2-all-ff", (l2, b"\xff" * 1024))

# Compressed clusters.
packed = read("qcow2-zlib.qcow2")
_, packed_l2 = tables(packed)
i, entry = [(i, e) for i, e in enumerate(entries(packed, packed_l2)) if e & COMPRESSED][1]
start = entry & ((1 << 54) - 1)
bad.put("zlib-stream-corrupt", edited(packed, (start + 1, b"\xff" * 8)))
bad.put("zlib-off-beyond-eof", edited(packed, (packed_l2 + 8 * i, be64(COMPRESSED | 1 << 40))))
bad.put("zlib-trunc", packed[: start + 20])
packed = read("qcow2-zstd.qcow2")
_, packed_l2 = tables(packed)
start = [e for e in entries(packed, packed_l2) if e & COMPRESSED][1] & ((1 << 54) - 1)
bad.put("zstd-stream-corrupt", edited(packed, (start + 6, b"\xff" * 24)))

# 1 GiB out of half a MiB: every L2 entry names the same compressed cluster.
packer = zlib.compressobj(9, zlib.DEFLATED, -12)
cluster = packer.compress(b"AMPLIFY!" * 8192) + packer.flush()
header = (
    b"QFI\xfb" + be32(2) + be64(0) + be32(0) + be32(16) + be64(1 << 30) + be32(0)
    + be32(2) + be64(CLUSTER) + be64(2 * CLUSTER) + be32(1) + be32(0) + be64(0)
)  # fmt: skip
sectors = (len(cluster) - 1) // 512
entry = be64(COMPRESSED | sectors << (62 - 8) | 5 * CLUSTER)
amplify = edited(
    bytes(7 * CLUSTER),
    (0, header),
    (CLUSTER, be64(COPIED | 3 * CLUSTER) + be64(COPIED | 4 * CLUSTER)),
    (2 * CLUSTER, be64(6 * CLUSTER)),
    (3 * CLUSTER, entry * 8192),
    (4 * CLUSTER, entry * 8192),
    (5 * CLUSTER, cluster),
    (6 * CLUSTER, struct.pack(">7H", 1, 1, 1, 1, 1, 16384, 1)),
)
write("qcow2-amplify-1G.qcow2", amplify)

# The name of the external data file is a text that qemu parses.
data = read("qcow2-datafile.qcow2")
at = data.find(b"DATA", 104, 4096)
after = at + 8 + (get(">I", data, at + 4) + 7) // 8 * 8
for name, text in (("json", b'json:{"driver":"file","filename":"/etc/passwd"}'), ("etc-passwd", b"/etc/passwd")):
    padded = text.ljust((len(text) + 7) // 8 * 8, b"\0")
    first = data[:at] + b"DATA" + be32(len(text)) + padded + data[after:CLUSTER]
    write(f"qcow2-datafile-{name}.qcow2", first[:CLUSTER] + data[CLUSTER:])
