package compress

import (
	"context"
	"errors"
	"io"
	"os"
)

const (
	chunkSize = 1 << 20
	chunks    = 4
)

// ahead decodes in a goroutine of its own while the caller writes what was decoded before.
type ahead struct {
	decoder decoder
	// empty are the buffers to decode into, full those to read from.
	empty chan []byte
	full  chan chunk
	// now is the chunk being read, rest what is left of it.
	now  chunk
	rest []byte

	ended  <-chan struct{}
	cause  func() error
	cancel context.CancelCauseFunc
}

// chunk is decoded data and the error that came behind it.
type chunk struct {
	data []byte
	err  error
}

func newAhead(ctx context.Context, cancel context.CancelCauseFunc, d decoder) *ahead {
	a := &ahead{
		decoder: d, empty: make(chan []byte, chunks), full: make(chan chunk, chunks),
		ended: ctx.Done(), cause: func() error { return context.Cause(ctx) }, cancel: cancel,
	}
	for range chunks {
		a.empty <- nil
	}
	go a.decode()
	return a
}

// decode ends with the data or with the context.
func (a *ahead) decode() {
	defer close(a.full)
	for {
		var buffer []byte
		select {
		case buffer = <-a.empty:
		case <-a.ended:
			return
		}
		if buffer == nil { // small images never need all of them
			buffer = make([]byte, chunkSize)
		}
		c := chunk{data: buffer[:0]}
		for c.err == nil && len(c.data) < chunkSize && a.cause() == nil {
			var n int
			n, c.err = a.decoder.Read(buffer[len(c.data):])
			c.data = buffer[:len(c.data)+n]
		}
		// There is room for as many chunks as there are buffers.
		a.full <- c
		if c.err != nil {
			return
		}
	}
}

// Read implements io.Reader. An error stays.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if len(p) == 0 {
			return 0, nil
		}
		if err := a.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// next gives the chunk that was read back and waits for another.
func (a *ahead) next() error {
	if err := a.cause(); err != nil {
		return err
	}
	if a.now.data != nil {
		a.empty <- a.now.data[:chunkSize]
		a.now.data = nil
	}
	select {
	case c, ok := <-a.full:
		if !ok {
			return a.cause()
		}
		a.now, a.rest = c, c.data
		if c.err != nil && !errors.Is(c.err, io.EOF) && a.cause() != nil {
			// What went wrong is that it was stopped.
			a.now.err = a.cause()
		}
		return nil
	case <-a.ended:
		return a.cause()
	}
}

// Close ends decoding and waits for it. Reads fail from then on.
func (a *ahead) Close() error {
	a.cancel(os.ErrClosed)
	for range a.full {
		continue // decode ends soon
	}
	a.decoder.stop()
	a.now, a.rest = chunk{err: os.ErrClosed}, nil
	return nil
}
