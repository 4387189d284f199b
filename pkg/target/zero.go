package target

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// zeroStep is how much is zeroed in one call, so that a signal is seen in between.
const zeroStep = 1 << 30

// zeroDevice zeroes a device if that costs no writes: punching holes zeroes, or the kernel
// says that it cannot. BLKDISCARD promises nothing and is never used. A device that cannot is
// zeroed where nobody wrote, when all is written.
func (t *Target) zeroDevice(ctx context.Context) error {
	punched, err := t.fallocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, t.place.capacity())
	if errors.Is(err, unix.ENOTSUP) {
		// Support may end at any step: it is a property of the range, not of the device.
		t.covered.add(0, punched)
		return nil
	}
	if err != nil {
		return err
	}
	return t.nowZeroed()
}

// ZeroAll makes all that nobody wrote read as zero now, and writes it if it must. It is for a
// tool that writes through File, and for a checkpoint. It returns at once when Zeroed.
func (t *Target) ZeroAll(ctx context.Context) error {
	t.gate.Lock()
	defer t.gate.Unlock()
	if err := t.usable(); err != nil {
		return err
	}
	return t.zeroGaps(ctx)
}

// zeroGaps zeroes what nobody wrote. gate is held alone: what is being written is no gap.
func (t *Target) zeroGaps(ctx context.Context) error {
	if t.zeroed.Load() {
		return nil
	}
	for gap := range t.covered.gaps(t.place.capacity()) {
		if err := t.zeroGap(ctx, gap); err != nil {
			return err
		}
	}
	return t.nowZeroed()
}

func (t *Target) nowZeroed() error {
	if err := t.datasync(); err != nil {
		return err
	}
	t.zeroed.Store(true)
	t.covered.reset()
	return nil
}

// zeroGap zeroes whole blocks and pages by the kernel, and writes the edges: the kernel
// refuses less than a block of the device, yet shows zeros from the page cache for some of it.
// A page with data that is only in the page cache is never touched.
func (t *Target) zeroGap(ctx context.Context, gap extent) error {
	unit := max(block, t.align.offset, int64(os.Getpagesize()))
	inner := extent{roundUp(gap.off, unit), gap.end / unit * unit}
	if inner.off >= inner.end {
		return t.writeZeros(ctx, gap)
	}
	if err := t.writeZeros(ctx, extent{gap.off, inner.off}); err != nil {
		return err
	}
	if !t.noZeroRange {
		done, err := t.fallocate(ctx, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, inner.off, inner.end)
		t.noZeroRange = errors.Is(err, unix.ENOTSUP)
		if err != nil && !t.noZeroRange {
			return err
		}
		inner.off = done
	}
	return t.writeZeros(ctx, extent{inner.off, gap.end})
}

func (t *Target) writeZeros(ctx context.Context, e extent) error {
	if e.off >= e.end {
		return nil
	}
	zeros, err := t.buffers.get(ctx, max(t.align.memory, 1))
	if err != nil {
		return err
	}
	defer t.buffers.put(zeros)
	clear(zeros)
	for e.off < e.end {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(int64(len(zeros)), e.end-e.off)
		if err := t.pwrite(zeros[:n], e.off); err != nil {
			return err
		}
		e.off += n
	}
	return nil
}

// fallocate works in steps from off to before end and returns how far it came. ENOTSUP is
// returned as it is.
func (t *Target) fallocate(ctx context.Context, mode uint32, off, end int64) (int64, error) {
	for ; off < end; off = min(off+zeroStep, end) {
		if ctx.Err() != nil {
			return off, context.Cause(ctx)
		}
		err := unix.EINTR
		for err == unix.EINTR {
			err = errno(unix.Fallocate(int(t.file.Fd()), mode, off, min(zeroStep, end-off)))
		}
		if err == unix.ENOTSUP || err == unix.ENOSYS {
			return off, unix.ENOTSUP
		}
		if err != 0 {
			return off, t.failed(fmt.Sprintf("zeroing target at byte %d", off), err)
		}
	}
	return end, nil
}

func errno(err error) unix.Errno {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return 0
}
