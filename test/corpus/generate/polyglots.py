#!/usr/bin/python3
"""polyglots.py - files that are two formats at once."""
from images import edited, read, write

evil = read("qcow2-backing-etc-passwd.qcow2")
area = bytes(evil[:32768]).ljust(32768, b"\0")  # the system area of an ISO belongs to nobody
write("poly-iso-with-qcow2-backing-header.iso", edited(read("iso9660.iso"), (0, area)))
write("poly-vhd-fixed-with-qcow2-header.vhd", edited(read("vhd-fixed.vhd"), (0, evil[:1024])))
write("poly-mbr-with-qcow2-header.raw", edited(read("raw-mbr.raw"), (0, evil[:72])))
write("poly-mbr-with-vmdk-header.raw", edited(read("raw-mbr.raw"), (0, read("vmdk-monolithicSparse.vmdk")[:446])))
