package compress

import (
	"errors"
	"io"

	"github.com/mikelolasagasti/xz"
)

// xzLibrary decodes an xz file where the xz program is not installed.
type xzLibrary struct {
	origin *origin
	in     *xz.Reader
}

func (d *xzLibrary) stop() {}

// Read implements io.Reader.
func (d *xzLibrary) Read(p []byte) (int, error) {
	n, err := d.read(p)
	if err != nil {
		err = d.origin.judge("xz", explainLibrary(err))
	}
	return n, err
}

func (d *xzLibrary) read(p []byte) (n int, err error) {
	if d.in == nil {
		if d.in, err = xz.NewReader(d.origin, Window); err != nil {
			return 0, err
		}
	}
	return d.in.Read(p)
}

func explainLibrary(err error) error {
	switch {
	case errors.Is(err, xz.ErrBuf):
		// The library ran out of input, or it is stuck; origin knows.
		return io.ErrUnexpectedEOF
	case errors.Is(err, xz.ErrMemlimit):
		return tooLarge(err)
	case errors.Is(err, xz.ErrOptions), errors.Is(err, xz.ErrUnsupportedCheck):
		return unsupported(err)
	default:
		return err
	}
}
