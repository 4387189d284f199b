package compress

import (
	"bufio"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// zstdDecoder decodes the frames of a zstd file and leaves out the skippable ones (RFC 8878, 3.1).
type zstdDecoder struct {
	// origin is what the decoder sees of the source, which is read in larger steps. Only there is
	// it certain that the data ended within a frame: the decoder calls some damage an unexpected end.
	origin *origin
	in     *zstd.Decoder
}

func newZstd(o *origin) (*zstdDecoder, error) {
	d := &zstdDecoder{origin: &origin{r: bufio.NewReaderSize(o, readSize)}}
	var err error
	// One goroutine, ours: within a frame more of them only cost.
	d.in, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(Window))
	if err != nil {
		return nil, fmt.Errorf("setting up zstd: %w", err)
	}
	if err := d.in.Reset(d.origin); err != nil {
		return nil, fmt.Errorf("setting up zstd: %w", err)
	}
	return d, nil
}

func (d *zstdDecoder) stop() { d.in.Close() }

// Read implements io.Reader.
func (d *zstdDecoder) Read(p []byte) (int, error) {
	n, err := d.in.Read(p)
	if err != nil {
		err = d.origin.judge("zst", explainZstd(err))
	}
	return n, err
}

func explainZstd(err error) error {
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return refusal.By(refusal.UnsupportedFormat, fmt.Sprintf("the zst data needs more than %d MiB of memory: compress it with zstd --long=26 or less", Window>>20), err)
	case errors.Is(err, zstd.ErrUnknownDictionary):
		return refusal.By(refusal.UnsupportedFormat, "the zst data needs a dictionary: compress it without one", err)
	default:
		return err
	}
}
