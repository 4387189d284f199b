package layer

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/gild-project/gild/pkg/format/refusal"
)

const (
	chunkSize = 1 << 20
	chunks    = 4
)

// intake reads a blob ahead and hashes it in a goroutine of its own, while the caller unpacks the
// same bytes. Its Read gives io.EOF only when length and digest of the whole blob are right.
type intake struct {
	blob   Blob
	digest *digest
	size   int64

	// empty are the chunks to fill, full those to read from, unhashed those to hash.
	empty, full, unhashed chan *chunk
	// hashed is closed after the last chunk.
	hashed chan struct{}
	// now is the chunk being read, rest what is left of it, err what ended reading.
	now  *chunk
	rest []byte
	err  error

	working sync.WaitGroup
	ended   <-chan struct{}
	cause   func() error
	cancel  context.CancelCauseFunc
}

// chunk is a part of a blob and the error that came behind it. Two read it at the same time.
type chunk struct {
	store, data []byte
	err         error
	readers     atomic.Int32
}

// newIntake begins to read. It owns blob from now on.
func newIntake(ctx context.Context, cancel context.CancelCauseFunc, blob Blob, d *digest, size int64) *intake {
	in := &intake{
		blob: blob, digest: d, size: size,
		empty: make(chan *chunk, chunks), full: make(chan *chunk, chunks), unhashed: make(chan *chunk, chunks),
		hashed: make(chan struct{}),
		ended:  ctx.Done(), cause: func() error { return context.Cause(ctx) }, cancel: cancel,
	}
	for range chunks {
		in.empty <- &chunk{}
	}
	in.working.Go(func() { in.fetch(ctx) })
	in.working.Go(in.hash)
	return in
}

// fetch ends with the blob or with the context.
func (in *intake) fetch(ctx context.Context) {
	defer close(in.unhashed)
	var taken int64
	for {
		var c *chunk
		select {
		case c = <-in.empty:
		case <-in.ended:
			return
		}
		if c.store == nil { // small layers never need all of them
			c.store = make([]byte, min(chunkSize, in.size+1))
		}
		c.data, c.err = in.fill(ctx, c.store, taken)
		taken += int64(len(c.data))
		c.readers.Store(2)
		// There is room for as many chunks as there are.
		in.unhashed <- c
		in.full <- c
		if c.err != nil {
			return
		}
	}
}

// fill reads a whole chunk, and at most one byte more than the blob may have.
func (in *intake) fill(ctx context.Context, store []byte, taken int64) ([]byte, error) {
	store = store[:min(int64(len(store)), in.size-taken+1)]
	n := 0
	var err error
	for err == nil && n < len(store) {
		var m int
		m, err = in.blob.Read(ctx, store[n:])
		n += m
	}
	taken += int64(n)
	switch {
	case taken > in.size:
		err = refusal.New(refusal.DigestMismatch, fmt.Sprintf("there are more bytes than the %d that the manifest says: push the image again", in.size))
	case err == io.EOF && taken < in.size: //nolint:errorlint // an error that wraps it is no end
		err = refusal.New(refusal.TruncatedImage, fmt.Sprintf("it has %d bytes, the manifest says %d: push the image again", taken, in.size))
	}
	return store[:n], err
}

func (in *intake) hash() {
	defer close(in.hashed)
	for c := range in.unhashed {
		_, _ = in.digest.Write(c.data) // never fails
		in.release(c)
	}
}

// release is called by both readers of a chunk. The last one gives it back.
func (in *intake) release(c *chunk) {
	if c.readers.Add(-1) == 0 {
		in.empty <- c
	}
}

// Read implements io.Reader. An error stays.
func (in *intake) Read(p []byte) (int, error) {
	for len(in.rest) == 0 && in.err == nil {
		in.next()
	}
	if len(in.rest) == 0 {
		return 0, in.err
	}
	n := copy(p, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// peek returns the first bytes of the blob without taking them, at most n.
func (in *intake) peek(n int) []byte {
	if in.now == nil {
		in.next()
	}
	return in.rest[:min(n, len(in.rest))]
}

// next waits for the next chunk, or sets err.
func (in *intake) next() {
	if in.err = in.cause(); in.err != nil {
		return
	}
	if in.now != nil {
		if in.err = in.now.err; in.err != nil {
			in.end()
			return
		}
		in.release(in.now)
	}
	select {
	case in.now = <-in.full:
		in.rest = in.now.data
	case <-in.ended:
		in.err = in.cause()
	}
}

// end turns the end of the blob into the verdict about its digest.
func (in *intake) end() {
	if in.err != io.EOF { //nolint:errorlint // an error that wraps it is no end
		if cause := in.cause(); cause != nil {
			in.err = cause // what went wrong is that it was stopped
		}
		return
	}
	select {
	case <-in.hashed:
		if err := in.digest.check(); err != nil {
			in.err = err
		}
	case <-in.ended:
		in.err = in.cause()
	}
}

// drain reads what is left, for the digest is of all of it.
func (in *intake) drain() error {
	for in.err == nil {
		in.rest = nil
		in.next()
	}
	if in.err == io.EOF { //nolint:errorlint // Read returns it bare
		return nil
	}
	return in.err
}

// close ends reading and waits for it.
func (in *intake) close() {
	in.cancel(os.ErrClosed)
	in.working.Wait()
	_ = in.blob.Close() // what was read needs no second look
}
