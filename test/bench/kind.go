package main

import (
	"path/filepath"
	"strings"
)

// kind is one form of the disk.
type kind struct {
	name string
	// file is its name below the disk's folder.
	file string
	// format is qemu-img's name of the image. Empty for streams.
	format string
	// unpack is the best tool that decompresses a stream from stdin to stdout.
	unpack string
	// packed tells that the image has compressed parts: decompressing is a stage of the floor.
	packed bool
	// layer is the media type of the layer of a container disk that the file is. It is read from a registry.
	layer string
	// checked tells that a checksum changes the path, so that it is measured with one, too.
	checked bool
}

func kinds() []kind {
	return []kind{
		{name: "raw", file: "disk.raw", format: "raw", checked: true},
		{name: "raw.gz", file: "disk.raw.gz", unpack: "pigz -dc", packed: true},
		{name: "raw.zst", file: "disk.raw.zst", unpack: "zstd -dcq", packed: true},
		{name: "raw.xz", file: "disk.raw.xz", unpack: "xz -dc -T0", packed: true},
		{name: "qcow2", file: "disk.qcow2", format: "qcow2", checked: true},
		{name: "qcow2 zlib", file: "disk.zlib.qcow2", format: "qcow2", packed: true, checked: true},
		{name: "qcow2 zstd", file: "disk.zstd.qcow2", format: "qcow2", packed: true, checked: true},
		{name: "vmdk stream", file: "disk.vmdk", format: "vmdk", packed: true},
		{name: "vhdx", file: "disk.vhdx", format: "vhdx", checked: true},
		{name: "containerDisk tar", file: "layers/disk.tar", format: "qcow2", layer: "application/vnd.oci.image.layer.v1.tar"},
		{name: "containerDisk tar+gzip", file: "layers/disk.tar.gz", format: "qcow2", unpack: "pigz -dc", packed: true, layer: "application/vnd.oci.image.layer.v1.tar+gzip"},
		{name: "containerDisk tar+zstd", file: "layers/disk.tar.zst", format: "qcow2", unpack: "zstd -dcq", packed: true, layer: "application/vnd.oci.image.layer.v1.tar+zstd"},
	}
}

// tag of the container disk.
func (k kind) tag() string { return strings.ReplaceAll(filepath.Base(k.file), ".", "-") }

// Links and targets of cells.
const (
	loopback = "loopback"
	limited  = "limited"

	toFile  = "file"
	toBlock = "block"
)

// limitedRate is that of one limited connection, in bytes per second.
const limitedRate = 40e6

// cell is one row of the table.
type cell struct {
	kind     kind
	target   string
	link     string
	checksum bool
}

// String names the cell for people and for -only.
func (c cell) String() string {
	name := c.kind.name + " " + c.target + " " + c.link
	if c.checksum {
		name += " checksum"
	}
	return name
}

// file is what the cell imports. A raw disk of 10 GiB takes four minutes over one limited
// connection and tells nothing that its first GiB does not.
func (c cell) file() string {
	if c.kind.name == "raw" && c.link == limited {
		return "disk.part.raw"
	}
	return c.kind.file
}

func cells() []cell {
	var all []cell
	for _, link := range []string{loopback, limited} {
		for _, target := range []string{toFile, toBlock} {
			for _, k := range kinds() {
				if k.layer != "" && link == limited && target == toBlock {
					continue // the network decides, not the target
				}
				all = append(all, cell{kind: k, target: target, link: link})
				if k.checked {
					all = append(all, cell{kind: k, target: target, link: link, checksum: true})
				}
			}
		}
	}
	return all
}
