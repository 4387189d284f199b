#!/usr/bin/python3
"""hostile_vmdk.py - VMDK images that name other files, lie or are cut."""
from images import Maker, get, le32, le64

SECTOR = 512
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=12345678
parentCID=ffffffff
createType="%s"

# Extent description
%s

# The Disk Data Base
#DDB
ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "1"
ddb.geometry.heads = "16"
ddb.geometry.sectors = "63"
ddb.adapterType = "ide"
"""

bad = Maker("vmdk-monolithicSparse.vmdk", "bad-vmdk", "vmdk")
good = bad.good

# A descriptor alone names the files of the disk.
for name, kind, extent in (
    ("flat-etc-passwd", "monolithicFlat", 'RW 8 FLAT "/etc/passwd" 0'),
    ("flat-traversal", "monolithicFlat", 'RW 8 FLAT "../../../../etc/passwd" 0'),
    ("device", "fullDevice", 'RW 2048 FLAT "/dev/zero" 0'),
    ("vmfs", "vmfs", 'RW 2048 VMFS "x-flat.vmdk"'),
    ("zero-only", "monolithicFlat", "RW 2048 ZERO"),
    ("nfs-json", "monolithicFlat", 'RW 8 FLAT "json:{\\"driver\\":\\"file\\",\\"filename\\":\\"/etc/passwd\\"}" 0'),
    ("no-extent", "monolithicSparse", ""),
):
    bad.put(f"desc-{name}", (DESCRIPTOR % (kind, extent)).encode())

# The descriptor inside a sparse file does the same.
start, length = get("<Q", good, 28) * SECTOR, get("<Q", good, 36) * SECTOR


def embed(name, text):
    bad(f"embedded-{name}", (start, text.encode().ljust(length, b"\0")[:length]))


embed("flat-etc-passwd", DESCRIPTOR % ("monolithicFlat", 'RW 8 FLAT "/etc/passwd" 0'))
embed("two-extents", DESCRIPTOR % ("monolithicSparse", 'RW 8 SPARSE "a.vmdk"\nRW 8 FLAT "/etc/shadow" 0'))
child = DESCRIPTOR % ("monolithicSparse", 'RW 16384 SPARSE "a.vmdk"')
embed("parent", child.replace("parentCID=ffffffff", 'parentCID=deadbeef\nparentFileNameHint="/etc/passwd"'))

# The header of a sparse file.
bad("version-9", (4, le32(9)))
bad("capacity-huge", (12, le64(1 << 54)))
bad("grain-0", (20, le64(0)))
bad("grain-huge", (20, le64(1 << 40)))
bad("desc-off-bad", (28, le64(2)))
bad("gtes-0", (44, le32(0)))
bad("gtes-huge", (44, le32(1 << 30)))
bad("gd-beyond-eof", (56, le64(1 << 45)), (48, le64(1 << 45)))
bad.put("trunc-half", good[: len(good) // 2])
bad.put("trunc-header", good[:300])

# A stream of compressed grains.
stream = Maker("vmdk-streamOptimized.vmdk", "bad-vmdk-stream", "vmdk")
stream.put("trunc-half", stream.good[: len(stream.good) // 2])
stream.put("trunc-noeos", stream.good[:-SECTOR])
stream.put("trunc-nofooter", stream.good[: -4 * SECTOR])
grain = 128 * SECTOR
while get("<I", stream.good, grain + 8) == 0:  # a marker and no grain
    grain += SECTOR
stream("grain-corrupt", (grain + 20, b"\xff" * 16))
stream("grain-size-huge", (grain + 8, le32(0x7FFFFFFF)))
stream("grain-lba-huge", (grain, le64(1 << 50)))
