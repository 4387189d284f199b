package target

import (
	"context"
	"os"

	"golang.org/x/sys/unix"
)

// sector is the least granule.
const sector = 512

// Complete takes a volume that holds a disk already, restored from a snapshot for example. Of a block device, what
// comes from byte end on reads as zero after it, stored; what comes before is not touched. A disk in a file needs
// nothing. It returns the size of the disk in bytes: end, or that of the file, which is 0 without one. Nothing else
// may be called of the Target.
func (t *Target) Complete(ctx context.Context, end int64) (size int64, err error) {
	t.gate.Lock()
	defer t.gate.Unlock()
	if f, ok := t.place.(*file); ok {
		info, err := os.Stat(f.path)
		if os.IsNotExist(err) {
			return 0, nil
		}
		if err != nil {
			return 0, ioError("completing target", err)
		}
		return info.Size(), nil
	}
	if end <= 0 || end > t.place.capacity() {
		return 0, t.misfit(end)
	}
	if err := t.open(t.place.reopen); err != nil {
		return 0, err
	}
	if err := t.clearFrom(ctx, end); err != nil {
		f := t.file
		t.file = nil
		_ = f.Close() // the first failure is the reason
		return 0, err
	}
	return end, t.shut()
}

// misfit says why a disk cannot end where it should.
func (t *Target) misfit(end int64) error {
	if end <= 0 {
		return fail(TargetError, "completing target: nobody says where the disk ends")
	}
	return t.Fits(end)
}

// clearFrom zeroes a device from byte end on.
func (t *Target) clearFrom(ctx context.Context, end int64) error {
	// The disk may end within a block: its edge is written through the page cache.
	if err := t.begin(end, sector); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(t.file.Fd())); err != nil {
		return t.failed("completing target: syncing it", err)
	}
	t.covered.add(0, end)
	return t.zeroGaps(ctx)
}
