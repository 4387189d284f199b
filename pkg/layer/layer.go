// Package layer reads the layers of a container image as one tree: the disk in it, or all of it.
package layer

import (
	"cmp"
	"context"
)

// Limits of what an image may ask for, whatever its headers say.
const (
	// maxEntries of one layer.
	maxEntries = 1 << 20
	// maxName is the longest path, in bytes. No system opens a longer one.
	maxName = 4096
	// maxRecord is how many names of one layer may have to do with the disk.
	maxRecord = 512
	// maxTree is the memory, in bytes, that the names of a merged tree may take.
	maxTree = 64 << 20
	// maxRest is how much, in bytes, may follow the end of a tar. Tapes pad it with zeros.
	maxRest = 64 << 20
	// maxUnpacked is the default of Options.MaxUnpacked.
	maxUnpacked = 1 << 40
)

// Layer is one layer of an image: a tar, plain or compressed, whatever its media type says.
type Layer struct {
	// Name is the layer for people, mostly its digest.
	Name string
	// MediaType is what the manifest claims.
	MediaType string
	// Size and Digest are those of the bytes as served. The digest is sha256:HEX or sha512:HEX.
	Size   int64
	Digest string
	// Open opens the bytes from the first on. It is called again when they are read again.
	Open func(ctx context.Context) (Blob, error)
}

// Blob is the bytes of a layer as served.
type Blob interface {
	// Read fills p like an io.Reader, from the first byte to the last.
	Read(ctx context.Context, p []byte) (int, error)
	Close() error
}

// Options of reading layers. The zero value is ready.
type Options struct {
	// MaxUnpacked is how many bytes of a layer are unpacked to get past them, the disk itself not
	// counted. 0 means 1 TiB. It ends layers that unpack to far more than they are.
	MaxUnpacked int64
	// XZ is the name of the program that decodes xz; empty means xz.
	XZ string
}

func (o Options) maxUnpacked() int64 { return cmp.Or(o.MaxUnpacked, maxUnpacked) }
