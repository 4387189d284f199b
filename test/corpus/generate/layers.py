#!/usr/bin/python3
"""layers.py - tar layers and OCI image layouts with a disk inside, good and hostile."""
import gzip
import hashlib
import io
import json
import tarfile

from images import edited, read, write

disk, small = bytes(read("qcow2-v3.qcow2")), bytes(read("raw-512bytes.raw"))


def member(name, size=0, kind=tarfile.REGTYPE, link="", mode=0o444):
    m = tarfile.TarInfo(name)
    m.size, m.type, m.linkname, m.mode, m.uid, m.gid, m.mtime = size, kind, link, mode, 107, 107, 1700000000
    return m


def file(name, data=disk):
    return member(name, len(data)), data


def folder(name):
    return member(name, kind=tarfile.DIRTYPE, mode=0o555), None


def special(name, kind, link=""):
    return member(name, kind=kind, link=link), None


def tar(name, *members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as w:
        for m, data in members:
            w.addfile(m, io.BytesIO(data) if data is not None else None)
    data = out.getvalue()
    if name.endswith(".gz"):
        data = gzip.compress(data, 9, mtime=0)
    write(name, data)
    return data


good = tar("layer-good.tar", folder("disk"), file("disk/disk.qcow2"))
good_gz = tar("layer-good.tar.gz", folder("disk"), file("disk/disk.qcow2"))
tar("layer-good-dotslash.tar", folder("./disk"), file("./disk/disk.img"))
tar("layer-two-images.tar", folder("disk"), file("disk/a.qcow2"), file("disk/b.img", small))
tar("layer-no-disk-dir.tar", file("etc/passwd", b"root:x\n"))
tar("layer-empty.tar")
tar("layer-whiteout.tar", folder("disk"), file("disk/.wh.disk.qcow2", b""))
tar("layer-many-entries.tar.gz", *[file("d/%05d" % i, b"") for i in range(20000)], file("disk/disk.img", small))

tar("bad-layer-traversal.tar", file("../../../../tmp/pwned", b"x"), file("disk/../../disk.img"))
tar("bad-layer-absolute.tar", file("/disk/disk.img"), file("/etc/cron.d/x", b"x"))
tar("bad-layer-symlink.tar", folder("disk"), special("disk/disk.img", tarfile.SYMTYPE, "/etc/passwd"))
tar("bad-layer-hardlink.tar", folder("disk"), special("disk/disk.img", tarfile.LNKTYPE, "/etc/passwd"))
tar("bad-layer-symlink-dir.tar", special("disk", tarfile.SYMTYPE, "/etc"), file("disk/disk.img"))
tar("bad-layer-chardev.tar", folder("disk"), special("disk/disk.img", tarfile.CHRTYPE))
tar("bad-layer-fifo.tar", folder("disk"), special("disk/disk.img", tarfile.FIFOTYPE))
tar("bad-layer-img-is-dir.tar", folder("disk"), folder("disk/disk.img"))
tar("bad-layer-evil-qcow2.tar", folder("disk"), file("disk/disk.qcow2", bytes(read("qcow2-backing-etc-passwd.qcow2"))))
tar("bad-layer-longname.tar", file("disk/" + "a" * 5000, small))
write("bad-layer-truncated.tar", good[: len(good) // 3])
write("bad-layer-truncated.tar.gz", good_gz[: len(good_gz) // 2])
write("bad-layer-hdr-cksum.tar", edited(good, (512 + 148, b"0000000\0")))


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layout(name, claims=None, more=None, platforms=None, damage=None):
    """An OCI layout with the good layer. claims change its descriptor, more the manifest, damage its bytes."""
    blobs = {}

    def add(kind, data, key=None):
        blobs[digest(data)] = key(data) if key else data
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": digest(data), "size": len(data)}

    layer = add("layer.v1.tar+gzip", good_gz, damage)
    layer.update(claims or {})
    root = {"type": "layers", "diff_ids": [digest(good)]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": root, "config": {}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add("config.v1+json", json.dumps(config).encode()),
        "layers": [layer],
    }
    manifest.update(more or {})
    described = add("manifest.v1+json", json.dumps(manifest).encode())
    described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    manifests = [described]
    if platforms:
        manifests = [dict(described, platform={"architecture": a, "os": "linux"}) for a in platforms]
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}
    tar(
        name,
        file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        file("index.json", json.dumps(index).encode()),
        *[file("blobs/sha256/" + key[7:], data) for key, data in blobs.items()],
    )


def flipped(data):
    return bytes(edited(data, (len(data) - 20, bytes([data[-20] ^ 1]))))


layout("oci-good.tar")
layout("oci-multiarch.tar", platforms=["amd64", "arm64"])
layout("bad-oci-blob-digest.tar", damage=flipped)
layout("bad-oci-blob-short.tar", damage=lambda data: data[:-1000])
layout("bad-oci-size-lies-small.tar", {"size": 100})
layout("bad-oci-size-lies-big.tar", {"size": len(good_gz) * 1000})
layout("bad-oci-digest-traversal.tar", {"digest": "sha256:../../../../etc/passwd"})
layout("bad-oci-digest-md5.tar", {"digest": "md5:d41d8cd98f00b204e9800998ecf8427e"})
layout("bad-oci-wrong-mediatype.tar", {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd"})
layout(
    "bad-oci-foreign-urls.tar",
    {
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "urls": ["http://169.254.169.254/latest/meta-data/"],
    },
)
layout("bad-oci-manifest-8MiB.tar", more={"annotations": {"x": "a" * (8 << 20)}})
