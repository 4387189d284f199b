package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// section is an Image of some bytes of a local file.
type section struct {
	file *os.File
	// stat is of file when it was opened.
	stat os.FileInfo
	name string
	// base and size say where the bytes lie in file, offset where Read is.
	base, size, offset int64
	// fetched counts the bytes that were read.
	fetched atomic.Int64
}

var _ Image = (*section)(nil)

// Section is an Image of the size bytes of f from off on, with a name for people. size may be 0.
// stat is of f when it was opened: it must not have changed since. Close leaves f open.
func Section(f *os.File, stat os.FileInfo, name string, off, size int64) Image {
	return &section{file: f, stat: stat, name: name, base: off, size: size}
}

// Read implements Image.
func (s *section) Read(ctx context.Context, p []byte) (int, error) {
	n, err := s.ReadAt(ctx, p, s.offset)
	s.offset += int64(n)
	if n > 0 {
		// The next call meets the error again.
		return n, nil
	}
	return 0, err
}

// ReadAt implements Image.
func (s *section) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if off < 0 {
		return 0, fail(SourceRefused, fmt.Sprintf("reading %s: the offset %d is negative", s.name, off))
	}
	n, err := io.NewSectionReader(s.file, s.base, s.size).ReadAt(p, off)
	s.fetched.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		return n, failBy(SourceRefused, fmt.Sprintf("reading %s at byte %d", s.name, off), err)
	}
	if err != nil && off+int64(n) < s.size {
		return n, &Error{reason: SourceUnstable, message: s.name + " became shorter while it was read", startOver: true}
	}
	if changed := s.unchanged(); changed != nil {
		return 0, changed
	}
	return n, err
}

// unchanged returns an error when the file was written to since it was opened.
func (s *section) unchanged() error {
	stat, err := s.file.Stat()
	if err != nil {
		return failBy(SourceRefused, "reading "+s.name, err)
	}
	if !stat.ModTime().Equal(s.stat.ModTime()) || stat.Size() != s.stat.Size() {
		return &Error{reason: SourceUnstable, message: s.name + " changed while it was read", startOver: true}
	}
	return nil
}

// Ranged implements Image.
func (s *section) Ranged() bool { return true }

// Rewind implements Image.
func (s *section) Rewind(context.Context) error {
	s.offset = 0
	return nil
}

// Tail implements Image.
func (s *section) Tail(ctx context.Context, n int64) ([]byte, error) {
	if s.size < n {
		return nil, errors.New("the source is shorter")
	}
	tail := make([]byte, n)
	if _, err := s.ReadAt(ctx, tail, s.size-n); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the end of the source: %w", err)
	}
	return tail, nil
}

// Fetched implements Image.
func (s *section) Fetched() int64 { return s.fetched.Load() }

// Size implements Image.
func (s *section) Size() int64 { return s.size }

// Framed implements Image.
func (s *section) Framed() bool { return true }

// Validators implements Image: whoever gives out a section knows better ones, such as a digest.
func (s *section) Validators() (etag, lastModified string) { return "", "" }

// ContentType implements Image.
func (s *section) ContentType() string { return "" }

// Name implements Image.
func (s *section) Name() string { return s.name }

// Close implements Image.
func (s *section) Close() error { return nil }
