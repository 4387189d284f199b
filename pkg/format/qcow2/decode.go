package qcow2

import (
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/klauspost/compress/zstd"

	"github.com/gild-project/gild/pkg/format/inflate"
)

// maxZstdWindow is what zstd itself takes unless told otherwise. It costs no memory here, as
// whole clusters are decoded.
const maxZstdWindow = 128 << 20

var errLength = errors.New("its length is not that of a cluster")

// codec decodes the compressed clusters of an image. It is for one goroutine at a time.
type codec struct {
	deflate *inflate.Decoder
	zstd    *zstd.Decoder
}

func newCodec(h *Header) (codec, error) {
	if !h.zstd {
		return codec{deflate: new(inflate.Decoder)}, nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return codec{}, fmt.Errorf("preparing zstd: %w", err)
	}
	return codec{zstd: d}, nil
}

// decode fills dst, a cluster. The length of src is known in sectors only: what follows the
// compressed data is not looked at.
func (c codec) decode(dst, src []byte) error {
	if c.zstd == nil {
		n, _, err := c.deflate.Inflate(dst, src)
		if err == nil && n != len(dst) {
			return errLength
		}
		return err
	}
	n, err := frameLength(src)
	if err != nil {
		return err
	}
	out, err := c.zstd.DecodeAll(src[:n], dst[:0:len(dst)])
	if err == nil && (len(out) != len(dst) || &out[0] != &dst[0]) {
		return errLength
	}
	return err
}

// frameLength finds the end of the first zstd frame (RFC 8878, 3.1.1): the next cluster may
// begin with another frame right behind it.
func frameLength(src []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return 0, err
	}
	if h.Skippable {
		return 0, zstd.ErrMagicMismatch
	}
	const blockHeader, checksum, rle = 3, 4, 1
	n := h.HeaderSize
	for last := false; !last; {
		if len(src) < n+blockHeader {
			return 0, io.ErrUnexpectedEOF
		}
		b := uint32(src[n]) | uint32(src[n+1])<<8 | uint32(src[n+2])<<16
		last = b&1 != 0
		n += blockHeader
		if b>>1&3 == rle {
			n++
		} else {
			n += int(b >> 3)
		}
	}
	if h.HasCheckSum {
		n += checksum
	}
	if len(src) < n {
		return 0, io.ErrUnexpectedEOF
	}
	return n, nil
}

// aligned returns n bytes at an address that suits writes around the page cache.
func aligned(n int64) []byte {
	b := make([]byte, n+directIO)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (directIO - 1) //nolint:gosec // the address is only looked at
	return b[skip:][:n:n]
}
