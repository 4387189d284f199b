package qcow2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/qcow2"
	"github.com/gild-project/gild/pkg/format/refusal"
)

func reason(t *testing.T, err error) string {
	t.Helper()
	var e *refusal.Error
	require.ErrorAs(t, err, &e)
	return e.Reason()
}

// source reads a file at random, as a server with ranges does.
type source struct{ io.ReaderAt }

func (s source) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return s.ReaderAt.ReadAt(p, off)
}

// disk is a sink that checks the promises made to it.
type disk struct {
	granule, size int64

	mu     sync.Mutex
	pages  map[int64][]byte
	spans  [][2]int64
	writes int
	err    error
}

const page = 64 << 10

func newDisk(h qcow2.Header) *disk {
	return &disk{granule: h.Granule(), size: h.VirtualSize, pages: map[int64][]byte{}}
}

func (d *disk) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return 0, d.err
	case len(p) == 0 || off < 0 || end > d.size:
		return 0, fmt.Errorf("a write of %d bytes at %d of %d", len(p), off, d.size)
	case off%d.granule != 0 || end%d.granule != 0 && end != d.size:
		return 0, fmt.Errorf("a write of %d bytes at %d between granules of %d", len(p), off, d.granule)
	}
	d.writes++
	d.spans = append(d.spans, [2]int64{off, end})
	for len(p) > 0 {
		at := off / page
		if d.pages[at] == nil {
			d.pages[at] = make([]byte, page)
		}
		n := copy(d.pages[at][off%page:], p)
		p, off = p[n:], off+int64(n)
	}
	return int(end - off), nil
}

// check finds clusters that were written twice.
func (d *disk) check(t *testing.T) {
	t.Helper()
	slices.SortFunc(d.spans, func(a, b [2]int64) int { return int(a[0] - b[0]) })
	for i := range len(d.spans) - 1 {
		require.LessOrEqual(t, d.spans[i][1], d.spans[i+1][0], "written twice")
	}
}

// equal compares disks, of which most may be holes.
func (d *disk) equal(other *disk) error {
	zero := make([]byte, page)
	for _, pair := range [][2]*disk{{d, other}, {other, d}} {
		for at, have := range pair[0].pages {
			want := pair[1].pages[at]
			if want == nil {
				want = zero
			}
			if !bytes.Equal(have, want) {
				return fmt.Errorf("page %d differs", at)
			}
		}
	}
	return nil
}

// random reads an image tables first.
func random(ctx context.Context, r io.ReaderAt, size, most int64, whole bool) (*disk, error) {
	im, err := qcow2.Open(ctx, source{r}, size, most)
	if err != nil {
		return nil, err
	}
	d := newDisk(im.Header)
	for slice := range im.Slices() {
		next := int64(0)
		for p, err := range im.Pieces(ctx, slice, whole) {
			if err != nil {
				return nil, err
			}
			if p.Off < next || whole && p.Off != next || p.Len <= 0 || p.Len > 4<<20 {
				return nil, fmt.Errorf("a piece of %d bytes at %d instead of %d", p.Len, p.Off, next)
			}
			next = p.Off + p.Len
			data := make([]byte, p.Len)
			if _, err := r.ReadAt(data, p.Off); err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			if err := im.Place(ctx, p, data, d); err != nil {
				return nil, err
			}
		}
		if next > size || whole && next != size {
			return nil, fmt.Errorf("pieces end at %d of %d", next, size)
		}
	}
	return d, nil
}

// forward reads an image in chunks and returns how often.
func forward(ctx context.Context, r io.ReaderAt, size, most int64, chunk int) (d *disk, passes int, err error) {
	head := make([]byte, min(size, qcow2.HeadSize))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, 0, err
	}
	h, err := qcow2.ReadHeader(head)
	if err != nil {
		return nil, 0, err
	}
	d = newDisk(h)
	pass, err := qcow2.NewPass(head, most, 2, d)
	if err != nil {
		return nil, 0, err
	}
	defer pass.Close()
	for again := true; again; passes++ {
		in := io.NewSectionReader(r, 0, size)
		buf := make([]byte, chunk)
		for {
			n, err := io.ReadFull(in, buf)
			if err := pass.Write(ctx, buf[:n]); err != nil {
				return nil, passes, err
			}
			if err != nil {
				break
			}
		}
		if again, err = pass.End(ctx); err != nil {
			return nil, passes, err
		}
	}
	return d, passes, nil
}

// readAll reads an image in every way and requires that all agree.
func readAll(t *testing.T, r io.ReaderAt, size int64, chunks ...int) *disk {
	t.Helper()
	want, err := random(t.Context(), r, size, math.MaxInt64, false)
	require.NoError(t, err)
	want.check(t)
	got, err := random(t.Context(), r, size, math.MaxInt64, true)
	require.NoError(t, err)
	require.NoError(t, want.equal(got))
	for _, chunk := range chunks {
		got, passes, err := forward(t.Context(), r, size, math.MaxInt64, chunk)
		require.NoError(t, err)
		require.Equal(t, 1, passes)
		require.NoError(t, want.equal(got), "chunk %d", chunk)
		got.check(t)
	}
	return want
}
