package importer

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
)

// Reading and hashing overlap with what follows: while one chunk is used the next ones fill.
// 1 MiB keeps system calls rare; four of them are 4 MiB of memory.
const (
	chunkSize  = 1 << 20
	chunkCount = 4
)

// flow is a source in the order of its bytes, hashed on the way. It reads ahead.
type flow struct {
	full    chan chunk
	free    chan []byte
	current chunk
	// rest is what is left of current.
	rest   []byte
	length int64
	// ended tells that the source has ended by itself. Others ask for it while somebody reads.
	ended  atomic.Bool
	stop   context.CancelFunc
	reader sync.WaitGroup
}

// chunk is a piece of the source. Only the last one is short, and has the error that ended it.
type chunk struct {
	bytes []byte
	err   error
}

// startFlow begins to read. head was read from the source before. hangUp ends the source, also
// while somebody waits for its bytes.
func startFlow(ctx context.Context, source Source, hangUp func(), head []byte, h hashes) *flow {
	ctx, cancel := context.WithCancel(ctx)
	f := &flow{full: make(chan chunk), free: make(chan []byte, chunkCount)}
	f.stop = func() {
		cancel()
		hangUp()
	}
	for range chunkCount {
		f.free <- make([]byte, chunkSize)
	}
	f.reader.Go(func() {
		defer close(f.full)
		f.produce(ctx, source, head, h)
	})
	return f
}

func (f *flow) produce(ctx context.Context, source Source, head []byte, h hashes) {
	for {
		var buffer []byte
		select {
		case buffer = <-f.free:
		case <-ctx.Done():
			return
		}
		n := copy(buffer, head)
		head = head[n:]
		m, err := readFull(ctx, source, buffer[n:])
		h.write(buffer[:n+m])
		select {
		case f.full <- chunk{buffer[:n+m], err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// Read implements io.Reader for one reader.
func (f *flow) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.current.err != nil {
			return 0, f.current.err
		}
		if f.current.bytes != nil {
			f.free <- f.current.bytes[:chunkSize]
		}
		next, more := <-f.full
		if !more {
			f.current = chunk{err: context.Canceled}
			continue
		}
		f.current, f.rest = next, next.bytes
		if isEnd(next.err) {
			f.ended.Store(true)
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	f.length += int64(n)
	return n, nil
}

// end hangs up, unless the source has ended by itself and may be read again.
func (f *flow) end() {
	if !f.ended.Load() {
		f.stop()
	}
}

// close ends the source and waits for the reader.
func (f *flow) close() {
	f.end()
	f.reader.Wait()
}

// readFull reads until p is full. At the end of the source it returns io.EOF with what was read.
func readFull(ctx context.Context, source Source, p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := source.Read(ctx, p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// isEnd tells the end of a source from a failure, which may wrap io.EOF: only the plain one is an
// end, by the contract of io.Reader.
func isEnd(err error) bool {
	return err == io.EOF //nolint:errorlint // see above
}
