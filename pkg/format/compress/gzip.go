package compress

import (
	"bufio"
	"io"

	"github.com/klauspost/compress/gzip"
)

// readSize is how much is asked of the source at once.
const readSize = 256 << 10

// gzipDecoder decodes the members of a gzip file one after another (RFC 1952, 2.2).
type gzipDecoder struct {
	origin *origin
	in     *bufio.Reader
	member *gzip.Reader
}

func newGzip(o *origin) *gzipDecoder {
	return &gzipDecoder{origin: o, in: bufio.NewReaderSize(o, readSize)}
}

func (d *gzipDecoder) stop() {}

// Read implements io.Reader.
func (d *gzipDecoder) Read(p []byte) (int, error) {
	n, err := d.read(p)
	if err != nil {
		err = d.origin.judge("gz", err)
	}
	return n, err
}

func (d *gzipDecoder) read(p []byte) (int, error) {
	if d.member == nil {
		member, err := gzip.NewReader(d.in)
		if err != nil {
			return 0, unexpected(err)
		}
		member.Multistream(false)
		d.member = member
	}
	n, err := d.member.Read(p)
	if err == io.EOF { //nolint:errorlint // the reader returns it bare, after it compared checksum and length
		err = d.next()
	}
	return n, err
}

// next goes to the next member. The error is io.EOF when there is none.
func (d *gzipDecoder) next() error {
	magic, err := d.in.Peek(2)
	switch {
	case len(magic) == 0:
		return err
	case magic[0] == 0:
		return d.padding()
	case magic[0] != 0x1f || len(magic) == 2 && magic[1] != 0x8b:
		return trailing("gz")
	}
	if err := d.member.Reset(d.in); err != nil {
		return unexpected(err)
	}
	d.member.Multistream(false)
	return nil
}

// padding reads zeros up to the end of the source. Tapes leave them, and gzip ignores them.
func (d *gzipDecoder) padding() error {
	for {
		b, err := d.in.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return trailing("gz")
		}
	}
}

// unexpected is err where the data must not end.
func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // readers return it bare
		return io.ErrUnexpectedEOF
	}
	return err
}
