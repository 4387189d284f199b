package compress

import (
	"bufio"
	"compress/bzip2"
	"io"
)

// bzip2Decoder decodes the streams of a bzip2 file, all of them.
type bzip2Decoder struct {
	origin *origin
	in     io.Reader
}

func newBzip2(o *origin) *bzip2Decoder {
	return &bzip2Decoder{origin: o, in: bzip2.NewReader(bufio.NewReaderSize(o, readSize))}
}

func (d *bzip2Decoder) stop() {}

// Read implements io.Reader.
func (d *bzip2Decoder) Read(p []byte) (int, error) {
	n, err := d.in.Read(p)
	if err != nil {
		err = d.origin.judge("bz2", err)
	}
	return n, err
}
