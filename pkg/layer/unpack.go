package layer

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"sync"

	"github.com/gild-project/gild/pkg/format/compress"
)

// magicSize is how many bytes tell the compressions apart.
const magicSize = 10

// compression names what a layer is compressed with, by its first bytes: media types lie. It is
// empty for none. zstd:chunked is zstd with skippable frames, eStargz is gzip in many members.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return "gz"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "zst"
	case len(head) >= 4 && binary.LittleEndian.Uint32(head)&0xfffffff0 == 0x184d2a50:
		return "zst"
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return "xz"
	// A tar may begin with a file named BZh9.
	case len(head) >= magicSize && bytes.HasPrefix(head, []byte("BZh")) &&
		(bytes.Equal(head[4:], []byte{0x31, 0x41, 0x59, 0x26, 0x53, 0x59}) || bytes.Equal(head[4:], []byte{0x17, 0x72, 0x45, 0x38, 0x50, 0x90})):
		return "bz2"
	}
	return ""
}

// unpacked is the tar in a layer. It counts what is read of it, and remembers what
// ended it, because archive/tar may say something else.
type unpacked struct {
	io.Reader
	stop func()
	// left is how much may still be read while it is metered.
	left    int64
	limit   int64
	metered bool
	err     error
}

func unpack(ctx context.Context, in *intake, o Options) (*unpacked, error) {
	u := &unpacked{Reader: in, stop: func() {}, left: o.maxUnpacked(), limit: o.maxUnpacked(), metered: true}
	format := compression(in.peek(magicSize))
	if format == "" {
		return u, nil
	}
	r, err := compress.NewReader(ctx, format, in, compress.Options{XZ: o.XZ})
	if err != nil {
		return nil, err
	}
	u.Reader, u.stop = r, sync.OnceFunc(func() { r.Close() })
	return u, nil
}

// Read implements io.Reader. An error stays.
func (u *unpacked) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if u.metered {
		if u.left == 0 && len(p) > 0 {
			u.err = tooMuch("it unpacks to more than %d MiB that are not the disk: build the image without what is not needed", u.limit>>20)
			return 0, u.err
		}
		p = p[:min(int64(len(p)), u.left)]
	}
	n, err := u.Reader.Read(p)
	if u.metered {
		u.left -= int64(n)
	}
	u.err = err
	return n, err
}

// failure is what ended the tar, if it was no proper end.
func (u *unpacked) failure() error {
	if u.err == io.EOF { //nolint:errorlint // an error that wraps it is no end
		return nil
	}
	return u.err
}
