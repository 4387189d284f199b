package target

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// writeBehind is how much buffered data is written before the kernel is told to start storing
// it: dirty pages count against the memory of a pod, and a flood of them at the end makes the
// last sync slow. Only used where direct I/O is refused.
const writeBehind = 8 << 20

// WriteAt writes p at off and keeps blocks of zeros as holes. off is a multiple of 4 KiB; so is
// the length of p, but for the end of the disk, which is filled up with zeros. After an error
// nothing can be written any more.
func (t *Target) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if t.broken != nil {
		return 0, t.broken
	}
	if err := t.checkWrite(p, off); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		zeros, length := run(p[done:])
		if !zeros {
			if err := t.writeRun(ctx, p[done:done+length], off+int64(done)); err != nil {
				t.broken = err
				return done, err
			}
		}
		done += length
	}
	return len(p), nil
}

func (t *Target) checkWrite(p []byte, off int64) error {
	switch {
	case off < 0 || off%block != 0:
		return fail(TargetError, fmt.Sprintf("writing target: offset %d is not a multiple of %d", off, block))
	case t.inOrder && off < t.next:
		return fail(TargetError, fmt.Sprintf("writing target: offset %d comes after %d", off, t.next))
	case t.place.block() && off+int64(len(p)) > t.place.capacity():
		return t.place.tooLarge(off + int64(len(p)))
	}
	return nil
}

// run returns the length of the longest start of p that is all data or all zeros, in blocks.
func run(p []byte) (zeros bool, length int) {
	zeros = isZero(p[:min(block, len(p))])
	for length = min(block, len(p)); length < len(p); {
		next := min(length+block, len(p))
		if isZero(p[length:next]) != zeros {
			break
		}
		length = next
	}
	return zeros, length
}

// isZero compares p with itself one byte on, which runs at the speed of memory.
func isZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// writeRun writes data and, on a device that is not zeroed yet, the gap before it.
func (t *Target) writeRun(ctx context.Context, p []byte, off int64) error {
	if t.inOrder {
		if err := t.zeroGap(ctx, off); err != nil {
			return err
		}
	}
	if err := t.pwrite(t.padded(p), off); err != nil {
		return err
	}
	t.written += int64(len(p))
	t.next = max(t.next, off+roundUp(int64(len(p)), t.unit()))
	return nil
}

// unit is what the length of a write is a multiple of. Blocks are, so only the end is padded.
func (t *Target) unit() int64 {
	if t.direct {
		return t.align.offset
	}
	return 1
}

// padded returns p in a form that the descriptor takes: filled up with zeros to the unit, at
// an aligned address.
func (t *Target) padded(p []byte) []byte {
	length := roundUp(int64(len(p)), t.unit())
	if !t.direct || length == int64(len(p)) && aligned(p, t.align.memory) {
		return p
	}
	buffer := alignedBuffer(int(length), t.align.memory)
	copy(buffer, p)
	return buffer
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
			return ioError(fmt.Sprintf("writing target at byte %d", off), err)
		}
		p, off = p[n:], off+int64(n)
		t.unsynced += int64(n)
	}
	if t.direct || t.unsynced < writeBehind {
		return nil
	}
	t.unsynced = 0
	// Only the flag WRITE: the WAIT flags would take the error away from the last sync.
	if err := unix.SyncFileRange(int(t.file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE); err != nil {
		return ioError("writing target", err)
	}
	return nil
}
