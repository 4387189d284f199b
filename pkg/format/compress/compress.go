// Package compress undoes gzip, xz, zstd and bzip2 while an image streams in.
package compress

import (
	"context"
	"fmt"
	"io"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Window is how far back, in bytes, xz and zstd data may refer: the decoder must keep that much
// in memory. It is what the highest levels of xz (-9) need; of zstd only --ultra above 20 and
// --long above 26 want more.
const Window = 64 << 20

// Options of a reader. The zero value is ready.
type Options struct {
	// XZ is the name of the program that decodes xz; empty means xz. When it cannot be started
	// a library does its work, slower and on one core.
	XZ string
}

// decoder is one format's way from source to plain data. It reads to the end of the source, all
// members or frames of it, and its errors say whose fault they are.
type decoder interface {
	io.Reader
	// stop ends what still works for the decoder after the context ended, and waits for it.
	stop()
}

// NewReader decodes r, which is in the format gz, xz, zst or bz2, up to its end. Decoding runs
// ahead of Read by up to 4 MiB; besides that the memory is the decoder's: 64 MiB and a bit for
// xz and zst at most, whatever the data says, less than 8 MiB for the others.
//
// The errors of Read are those of r, unchanged; refusals with the reason TruncatedImage when r
// ends too early, CorruptImage when the data breaks the format, fails its checksum or is
// followed by something else, and UnsupportedFormat when it needs more memory or a dictionary;
// or the cause of ctx.
//
// Nothing reads r any more when Close has returned. Close waits for a read of r that is under
// way, so end that first.
func NewReader(ctx context.Context, format string, r io.Reader, o Options) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	d, err := open(ctx, format, &origin{r: r}, o)
	if err != nil {
		cancel(err)
		return nil, err
	}
	return newAhead(ctx, cancel, d), nil
}

func open(ctx context.Context, format string, r *origin, o Options) (decoder, error) {
	switch format {
	case "gz":
		return newGzip(r), nil
	case "bz2":
		return newBzip2(r), nil
	case "zst":
		return newZstd(r)
	case "xz":
		return newXZ(ctx, r, o)
	default:
		return nil, refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("%s is no compression that is known: use gz, xz, zst or bz2", format))
	}
}
