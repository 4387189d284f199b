package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// section is a blob on disk: a file, or a part of one.
type section struct {
	file *os.File
	name string
	// off and size are where it lies.
	off, size int64
	modified  time.Time
	// own tells that Close closes file.
	own     bool
	at      int64
	fetched atomic.Int64
}

var _ Blob = (*section)(nil)

// Read implements Blob.
func (s *section) Read(ctx context.Context, p []byte) (int, error) {
	n, err := s.ReadAt(ctx, p, s.at)
	s.at += int64(n)
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// ReadAt implements Blob.
func (s *section) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if off < 0 {
		return 0, fail(sourceRefused, "reading %s: the offset %d is negative", s.name, off)
	}
	n, err := io.NewSectionReader(s.file, s.off, s.size).ReadAt(p, off)
	s.fetched.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		return n, failBy(sourceRefused, fmt.Sprintf("reading %s at byte %d", s.name, off), err)
	}
	if err != nil && off+int64(n) < s.size {
		return n, fail(sourceUnstable, "%s became shorter while it was read", s.name)
	}
	stat, statErr := s.file.Stat()
	if statErr != nil {
		return 0, failBy(sourceRefused, "reading "+s.name, statErr)
	}
	if !stat.ModTime().Equal(s.modified) {
		return 0, fail(sourceUnstable, "%s changed while it was read", s.name)
	}
	return n, err
}

// Ranged implements Blob.
func (s *section) Ranged() bool { return true }

// Rewind implements Blob.
func (s *section) Rewind(context.Context) error {
	s.at = 0
	return nil
}

// Tail implements Blob.
func (s *section) Tail(ctx context.Context, n int64) ([]byte, error) {
	if s.size < n {
		return nil, errors.New("the blob is shorter")
	}
	tail := make([]byte, n)
	if _, err := s.ReadAt(ctx, tail, s.size-n); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return tail, nil
}

// Fetched implements Blob.
func (s *section) Fetched() int64 { return s.fetched.Load() }

// Size implements Blob.
func (s *section) Size() int64 { return s.size }

// Framed implements Blob.
func (s *section) Framed() bool { return true }

// Validators implements Blob. The digest is a better one.
func (s *section) Validators() (etag, lastModified string) { return "", "" }

// ContentType implements Blob.
func (s *section) ContentType() string { return "" }

// Name implements Blob.
func (s *section) Name() string { return s.name }

// Close implements Blob.
func (s *section) Close() error {
	if s.own {
		return s.file.Close()
	}
	return nil
}

// readSmall reads a manifest, or another small file of a layout.
func (s *section) readSmall(ctx context.Context) ([]byte, error) {
	if s.size > maxManifest {
		return nil, tooLarge()
	}
	raw := make([]byte, s.size)
	if _, err := s.ReadAt(ctx, raw, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return raw, nil
}

// absent is a blob that index.json or a manifest promises.
func absent(layout, name string) error {
	return failBy(notFound, layout, refusal.New(refusal.CorruptImage, name+" is missing: copy the whole layout"))
}
