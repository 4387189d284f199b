#!/usr/bin/python3
"""tables.py - an honest disk of 4 TiB in clusters of 4 KiB with more tables than a reader may keep in memory."""
from images import be32, be64

CLUSTER = 4096
COPIED = 1 << 63
ZERO = 1
SIZE = 4 << 40
PER_TABLE = CLUSTER // 8
L1_ENTRIES = SIZE // (CLUSTER * PER_TABLE)
TABLES = 8192
STEP = L1_ENTRIES // TABLES
DATA_EVERY = 64  # of so many tables one has data: reading the disk back must not take long

l1_at = 2 * CLUSTER
l2_at = l1_at + 8 * L1_ENTRIES
data_at = l2_at + TABLES * CLUSTER
header = (
    b"QFI\xfb" + be32(3) + be64(0) + be32(0) + be32(12) + be64(SIZE) + be32(0)
    + be32(L1_ENTRIES) + be64(l1_at) + be64(CLUSTER) + be32(1) + be32(0) + be64(0)
    + be64(0) + be64(0) + be64(0) + be32(4) + be32(104)
)  # fmt: skip
with open("qcow2-4T-cluster-4k.qcow2", "wb") as f:
    f.write(header)
    for n in range(TABLES):
        f.seek(l1_at + 8 * (n * STEP))
        f.write(be64(COPIED | l2_at + n * CLUSTER))
    f.seek(l2_at)
    for n in range(TABLES):
        first = be64(ZERO) if n % DATA_EVERY else be64(COPIED | data_at + n // DATA_EVERY * CLUSTER)
        f.write(first + be64(ZERO) * (PER_TABLE - 1))
    for n in range(0, TABLES, DATA_EVERY):
        f.write((b"table %07d" % n).ljust(64, b".") * (CLUSTER // 64))
