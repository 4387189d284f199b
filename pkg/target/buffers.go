package target

import "context"

// Direct I/O takes aligned memory only. Other memory is copied through a few buffers; whoever
// finds none waits for one.
const (
	bufferSize  = 1 << 20
	bufferCount = 4
)

// buffers are made when they are needed and kept.
type buffers struct{ free chan []byte }

func newBuffers() buffers {
	b := buffers{free: make(chan []byte, bufferCount)}
	for range bufferCount {
		b.free <- nil
	}
	return b
}

// get returns bufferSize bytes at an address that is a multiple of align.
func (b buffers) get(ctx context.Context, align int64) ([]byte, error) {
	select {
	case buffer := <-b.free:
		if buffer == nil {
			buffer = alignedBuffer(bufferSize, align)
		}
		return buffer, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (b buffers) put(buffer []byte) { b.free <- buffer }
