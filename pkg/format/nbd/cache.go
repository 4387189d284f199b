package nbd

import (
	"context"
	"fmt"
	"sync"
)

// The cache has maxChunks places of chunkSize, 16 MiB. A place that is not being fetched and
// that no read copies from can be given to another chunk: one always can, because at most
// maxInFlight reads hold one each and at most maxFetches more are fetched ahead.
const (
	chunkSize  = 512 << 10
	maxChunks  = 32
	maxFetches = 8
)

var _ [maxChunks - maxInFlight - maxFetches - 1]struct{}

// cache keeps the chunks that were read last, and fetches ahead of readers that go forward, so
// that several connections to the source are busy. Clients read tables in small parts.
type cache struct {
	export Export

	mu      sync.Mutex
	chunks  map[int64]*chunk
	fetches int
	clock   uint64
	failed  error
	running sync.WaitGroup
}

// chunk is one aligned part of the image. Its data and err may be read once ready is closed.
type chunk struct {
	data  []byte
	err   error
	ready chan struct{}

	// Guarded by the cache's mutex: whether it is still being fetched, how many reads need it,
	// and when it was needed last.
	fetching bool
	readers  int
	used     uint64
}

func newCache(e Export) *cache { return &cache{export: e, chunks: make(map[int64]*chunk, maxChunks)} }

// readAt fills p, which lies inside the image.
func (c *cache) readAt(ctx context.Context, p []byte, off int64) error {
	last := (off + int64(len(p)) - 1) / chunkSize
	for len(p) > 0 {
		index := off / chunkSize
		part := c.need(ctx, index, last)
		err := part.wait(ctx)
		if err == nil {
			n := copy(p, part.data[off%chunkSize:])
			p, off = p[n:], off+int64(n)
		}
		c.release(ctx, part, err)
		if err != nil {
			return err
		}
	}
	return nil
}

// need returns the chunk, which the caller releases, and has it and what probably follows it
// fetched. last is the last chunk of the same read.
func (c *cache) need(ctx context.Context, index, last int64) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	part := c.chunks[index]
	if part == nil {
		part = c.fetch(ctx, index)
	}
	part.readers++
	c.touch(part)
	end := min(last, index+maxFetches)
	if c.chunks[index-1] != nil {
		end = min(index+maxFetches, (c.export.Size-1)/chunkSize)
	}
	for next := index + 1; next <= end && c.fetches < maxFetches; next++ {
		if c.chunks[next] == nil {
			c.touch(c.fetch(ctx, next))
		}
	}
	return part
}

func (c *cache) touch(part *chunk) {
	c.clock++
	part.used = c.clock
}

// fetch begins to read a chunk that the cache does not have.
func (c *cache) fetch(ctx context.Context, index int64) *chunk {
	start := index * chunkSize
	data := c.place()[:min(chunkSize, c.export.Size-start)]
	part := &chunk{data: data, ready: make(chan struct{}), fetching: true}
	c.chunks[index] = part
	c.fetches++
	c.running.Go(func() {
		n, err := c.export.ReadAt(ctx, data, start)
		if n == len(data) {
			err = nil
		} else if err == nil {
			err = fmt.Errorf("reading image: source gave %d of %d bytes at %d", n, len(data), start)
		}
		c.mu.Lock()
		part.err, part.fetching = err, false
		c.fetches--
		if err != nil {
			// Whoever needs it next asks the source again.
			delete(c.chunks, index)
		}
		c.mu.Unlock()
		close(part.ready)
	})
	return part
}

// place finds memory for a chunk, that of the chunk that nobody needed for longest.
func (c *cache) place() []byte {
	if len(c.chunks) < maxChunks {
		return make([]byte, chunkSize)
	}
	oldest, found := int64(0), (*chunk)(nil)
	for index, part := range c.chunks {
		if !part.fetching && part.readers == 0 && (found == nil || part.used < found.used) {
			oldest, found = index, part
		}
	}
	delete(c.chunks, oldest)
	return found.data[:chunkSize]
}

func (p *chunk) wait(ctx context.Context) error {
	select {
	case <-p.ready:
		return p.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// release ends the use of a chunk and keeps the first error that is the source's own.
func (c *cache) release(ctx context.Context, part *chunk, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	part.readers--
	if err != nil && c.failed == nil && ctx.Err() == nil {
		c.failed = err
	}
}

func (c *cache) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// wait returns when nothing is fetched any more.
func (c *cache) wait() { c.running.Wait() }
