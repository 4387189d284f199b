package target

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// WriteAt writes p at off and keeps blocks of zeros as holes. off and the length of p are
// multiples of the granule of Prepare; only the length of the last piece of the disk may be
// any. Many goroutines may call it at once, in any order, with pieces that do not overlap.
func (t *Target) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := t.writeShared(ctx, p, off)
	if err == nil && !t.zeroed.Load() && t.covered.full() {
		err = t.ZeroAll(ctx)
	}
	return n, err
}

func (t *Target) writeShared(ctx context.Context, p []byte, off int64) (int, error) {
	t.gate.RLock()
	defer t.gate.RUnlock()
	if err := t.usable(); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if err := t.checkWrite(p, off); err != nil {
		return 0, err
	}
	zeroed := t.zeroed.Load()
	for done := 0; done < len(p); {
		hole, length := run(p[done:], off+int64(done), zeroed)
		if !hole {
			if !t.bounds.claim(off+int64(len(p)), int64(len(p))%t.granule != 0) {
				return done, fail(TargetError, fmt.Sprintf("writing target: the piece of %d bytes at %d is short and not the last one, or comes after it", len(p), off))
			}
			if err := t.writeData(ctx, p[done:done+length], off+int64(done), zeroed); err != nil {
				return done, err
			}
		}
		done += length
	}
	return len(p), nil
}

func (t *Target) checkWrite(p []byte, off int64) error {
	end := off + int64(len(p))
	switch {
	case off < 0 || off%t.granule != 0:
		return fail(TargetError, fmt.Sprintf("writing target: offset %d is not a multiple of %d", off, t.granule))
	case t.place.block() && end > t.place.capacity():
		return t.Fits(end)
	}
	return nil
}

// run returns the length of the longest start of p that is all data or all holes. Blocks are
// counted from the start of the disk, where p is at off. Where the volume is not zeroed, only
// whole blocks are holes: their edges can be zeroed without writing.
func run(p []byte, off int64, zeroed bool) (hole bool, length int) {
	isHole := func(b []byte) bool { return (zeroed || len(b) == block) && isZero(b) }
	length = min(block-int(off%block), len(p))
	hole = isHole(p[:length])
	for length < len(p) {
		next := min(length+block, len(p))
		if isHole(p[length:next]) != hole {
			break
		}
		length = next
	}
	return hole, length
}

// isZero compares p with itself one byte on, which runs at the speed of memory.
func isZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// writeData writes what is no hole in the form that the descriptor takes.
func (t *Target) writeData(ctx context.Context, p []byte, off int64, zeroed bool) error {
	unit := t.unit()
	inPlace := int64(len(p)) / unit * unit
	if t.direct && !aligned(p, t.align.memory) {
		inPlace = 0
	}
	if err := t.pwrite(p[:inPlace], off); err != nil {
		return err
	}
	for rest := p[inPlace:]; len(rest) > 0; {
		n, err := t.copied(ctx, rest, off+int64(len(p)-len(rest)))
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	t.written.Add(int64(len(p)))
	if !zeroed {
		t.covered.add(off, off+roundUp(int64(len(p)), unit))
	}
	return nil
}

// unit is what the length of a write is a multiple of. Granules are, so only the end is filled
// up with zeros.
func (t *Target) unit() int64 {
	if t.direct {
		return t.align.offset
	}
	return 1
}

// copied writes the start of p from an aligned buffer and returns its length.
func (t *Target) copied(ctx context.Context, p []byte, off int64) (int, error) {
	buffer, err := t.buffers.get(ctx, t.align.memory)
	if err != nil {
		return 0, err
	}
	defer t.buffers.put(buffer)
	n := copy(buffer, p)
	length := int(roundUp(int64(n), t.unit()))
	clear(buffer[n:length])
	return n, t.pwrite(buffer[:length], off)
}

func (t *Target) pwrite(p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(int(t.file.Fd()), p, off)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = unix.EIO
		}
		if err != nil {
			return t.failed(fmt.Sprintf("writing target at byte %d", off), err)
		}
		p, off = p[n:], off+int64(n)
		if err := t.behind(int64(n)); err != nil {
			return err
		}
	}
	return nil
}

// bounds remembers where the disk ends, so that the zeros that fill up its last piece cannot
// come over data, and no data is cut off.
type bounds struct {
	mutex sync.Mutex
	// end is the end of all pieces with data, tail that of the short one, 0 before it came.
	end, tail int64
}

func (b *bounds) reset() {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.end, b.tail = 0, 0
}

// claim tells whether a piece that ends at end may be written.
func (b *bounds) claim(end int64, short bool) bool {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if b.tail != 0 && end > b.tail || short && (b.end > end || b.tail != 0 && b.tail != end) {
		return false
	}
	if short {
		b.tail = end
	}
	b.end = max(b.end, end)
	return true
}

func (b *bounds) last() int64 {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.end
}
