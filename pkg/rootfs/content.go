package rootfs

import (
	"bytes"
	"context"
	"io"
	"os"
)

// content stops when ctx does, also in the middle of a large file.
type content struct {
	ctx  context.Context //nolint:containedctx // io.Reader has none
	from io.Reader
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	if c.from == nil {
		return 0, io.EOF
	}
	return c.from.Read(p)
}

// granule is the smallest run of zeros that becomes a hole, in bytes.
const granule = 64 << 10

// fillFile writes the content of a file and leaves its zeros out.
func (t *tree) fillFile(ctx context.Context, f *os.File, entry Entry) error {
	size := entry.Header.Size
	if err := f.Truncate(size); err != nil {
		return onVolume(err)
	}
	from, zeros := &content{ctx: ctx, from: entry.Content}, make([]byte, granule)
	for done := int64(0); done < size; {
		chunk := t.buffer[:min(int64(len(t.buffer)), size-done)]
		if _, err := io.ReadFull(from, chunk); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		for at := 0; at < len(chunk); at += granule {
			part := chunk[at:min(at+granule, len(chunk))]
			if bytes.Equal(part, zeros[:len(part)]) {
				continue
			}
			if _, err := f.WriteAt(part, done+int64(at)); err != nil {
				return onVolume(err)
			}
		}
		done += int64(len(chunk))
	}
	return nil
}
