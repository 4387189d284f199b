"""images.py - reads, edits and writes the images in the current folder, for the scripts beside it."""
import struct


def be32(v):
    return struct.pack(">I", v)


def be64(v):
    return struct.pack(">Q", v)


def le32(v):
    return struct.pack("<I", v)


def le64(v):
    return struct.pack("<Q", v)


def get(layout, data, off):
    """The one number of this struct layout at off."""
    return struct.unpack_from(layout, data, off)[0]


def read(name):
    with open(name, "rb") as f:
        return bytearray(f.read())


def write(name, data):
    with open(name, "wb") as f:
        f.write(bytes(data))


def edited(data, *edits):
    """A copy of data with each (offset, bytes) put in, longer where an edit goes past the end."""
    data = bytearray(data)
    for off, put in edits:
        if off + len(put) > len(data):
            data.extend(bytes(off + len(put) - len(data)))
        data[off : off + len(put)] = put
    return data


class Maker:
    """Writes images that are edits of one good image, named prefix-NAME.suffix."""

    def __init__(self, good, prefix, suffix):
        self.good, self.prefix, self.suffix = read(good), prefix, suffix

    def __call__(self, name, *edits):
        self.put(name, edited(self.good, *edits))

    def put(self, name, data):
        write(f"{self.prefix}-{name}.{self.suffix}", data)
