package target

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// zeroStep is how much is zeroed in one call, so that a signal is seen in between.
const zeroStep = 1 << 30

// zeroing is how the parts of a device that are not written become zero.
type zeroing int

const (
	// zeroed: they are zero already.
	zeroed zeroing = iota
	// zeroRange: the kernel zeroes them when asked, and may have to write.
	zeroRange
	// zeroWrite: zeros are written.
	zeroWrite
)

// prepareDevice zeroes a device. Punching holes zeroes without writing, or the kernel says
// that it cannot. BLKDISCARD promises nothing and is never used.
func (t *Target) prepareDevice(ctx context.Context) error {
	size := t.place.capacity()
	err := t.fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if err == nil {
		t.zero = zeroed
		return nil
	}
	if !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	t.zero = zeroRange
	if t.inOrder {
		return nil
	}
	// The writes come in any order and from elsewhere: all must be zero before.
	if err := t.makeZero(ctx, 0, size); err != nil {
		return err
	}
	t.zero = zeroed
	return nil
}

// zeroGap zeroes what lies between the last write and off.
func (t *Target) zeroGap(ctx context.Context, off int64) error {
	if t.zero == zeroed || off <= t.next {
		return nil
	}
	return t.makeZero(ctx, t.next, off-t.next)
}

// zeroRest zeroes what lies behind the last write.
func (t *Target) zeroRest(ctx context.Context) error {
	if t.zero == zeroed {
		return nil
	}
	return t.zeroGap(ctx, t.place.capacity())
}

// makeZero zeroes a range by ZERO_RANGE, or by writing once that is not supported. Support
// may end at any call: it is a property of the range, not of the device.
func (t *Target) makeZero(ctx context.Context, off, length int64) error {
	if t.zero == zeroRange {
		err := t.fallocate(ctx, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, length)
		if !errors.Is(err, unix.ENOTSUP) {
			return err
		}
		t.zero = zeroWrite
	}
	zeros := alignedBuffer(1<<20, max(t.align.memory, 1))
	for end := off + length; off < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(int64(len(zeros)), end-off)
		if err := t.pwrite(zeros[:n], off); err != nil {
			return err
		}
		off += n
	}
	return nil
}

func (t *Target) fallocate(ctx context.Context, mode uint32, off, length int64) error {
	for end := off + length; off < end; off += zeroStep {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := unix.EINTR
		for err == unix.EINTR {
			err = errno(unix.Fallocate(int(t.file.Fd()), mode, off, min(zeroStep, end-off)))
		}
		if err == unix.ENOTSUP || err == unix.ENOSYS {
			return unix.ENOTSUP
		}
		if err != 0 {
			return ioError(fmt.Sprintf("zeroing target at byte %d", off), err)
		}
	}
	return nil
}

func errno(err error) unix.Errno {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return 0
}
