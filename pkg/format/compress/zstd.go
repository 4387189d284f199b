package compress

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// zstdDecoder decodes the frames of a zstd file and leaves out the skippable ones (RFC 8878, 3.1).
type zstdDecoder struct {
	// origin is what the decoder sees of the source, which is read in larger steps. Only there is
	// it certain that the data ended within a frame: the decoder calls some damage an unexpected end.
	origin *origin
	// runs stands between the two and takes out zeros.
	runs *zeroRuns
	in   *zstd.Decoder
	// after and err are what the decoder returned behind zeros that were taken out.
	after []byte
	err   error
}

func newZstd(o *origin) (*zstdDecoder, error) {
	d := &zstdDecoder{origin: &origin{r: bufio.NewReaderSize(o, readSize)}}
	d.runs = newZeroRuns(d.origin)
	var err error
	// One goroutine, ours: the place of zeros that were taken out is only known when one block is decoded at a
	// time, and within a frame more goroutines only cost.
	d.in, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(Window))
	if err != nil {
		return nil, fmt.Errorf("setting up zstd: %w", err)
	}
	if err := d.in.Reset(d.runs); err != nil {
		return nil, fmt.Errorf("setting up zstd: %w", err)
	}
	return d, nil
}

func (d *zstdDecoder) stop() { d.in.Close() }

// Read implements io.Reader.
func (d *zstdDecoder) Read(p []byte) (int, error) {
	if d.runs.zeros == 0 && len(d.after) == 0 && d.err == nil {
		n, err := d.decode(p)
		if d.runs.zeros == 0 {
			return n, err
		}
		// They come before the block that was just decoded.
		d.after, d.err = append(d.after[:0], p[:n]...), err
	}
	if d.runs.zeros > 0 {
		n := int(min(int64(len(p)), d.runs.zeros))
		clear(p[:n])
		d.runs.zeros -= int64(n)
		return n, nil
	}
	n := copy(p, d.after)
	d.after = d.after[n:]
	if len(d.after) > 0 {
		return n, nil
	}
	return n, d.err
}

// decode returns bytes of one block only, or what is left of it.
func (d *zstdDecoder) decode(p []byte) (int, error) {
	n, err := d.in.Read(p)
	d.runs.decoded(p[:n])
	if err == nil {
		return n, nil
	}
	if d.runs.err != nil && d.runs.err != io.EOF { //nolint:errorlint // an error that wraps it is no end
		// The decoder takes some errors for the end.
		err = d.runs.err
	}
	return n, d.origin.judge("zst", explainZstd(err))
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
