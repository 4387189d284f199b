#!/usr/bin/python3
"""guests.py - writes the content of the guests' disks into $GUESTS. Seeded: the same in every run."""
import os
import random

MIB = 1 << 20
guests = os.environ["GUESTS"]


def disk(name, size, seed):
    """A disk with data in the places where readers slip."""
    r = random.Random(seed)
    with open(os.path.join(guests, name), "wb") as f:
        f.truncate(size)
        f.seek(MIB)
        f.write(r.randbytes(70000))  # crosses a cluster of 64 KiB and ends in the middle of a sector
        f.seek(3 * MIB - 100)
        f.write(b"edge-of-cluster " * 13)
        f.seek(4 * MIB)
        f.write((b"The quick brown fox jumps over the lazy dog. %d\n" % seed) * 6000)  # can be compressed
        f.seek(5 * MIB + 512)
        f.write(bytes(512) + r.randbytes(4096))
        f.seek(6 * MIB)
        f.write(b"\xff" * 65536)
        f.seek(size - 512)
        f.write(r.randbytes(512))  # the last sector must survive


def write(name, data):
    with open(os.path.join(guests, name), "wb") as f:
        f.write(data)


disk("base.raw", 8 * MIB, 1)
disk("gpt.raw", 8 * MIB, 2)
write("odd.raw", random.Random(20240601).randbytes(3 * MIB // 2 + 77))  # no multiple of a sector
# Six bits in each byte: more than 32 MiB are left when it is compressed, which no reader may keep in memory.
sixbit = bytes(range(64)) * 4
write("large.raw", random.Random(3).randbytes(48 * MIB).translate(sixbit) + bytes(16 * MIB))
