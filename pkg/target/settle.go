package target

import (
	"context"
	"errors"
	"fmt"
)

// Settle sets the size of a file to size bytes, unless that is negative, zeroes what nobody
// wrote, and stores all. Any error of any sync is final: the kernel would not report it
// again. After it, File can be read at any offset.
func (t *Target) Settle(ctx context.Context, size int64) error {
	t.gate.Lock()
	defer t.gate.Unlock()
	return t.settle(ctx, size)
}

func (t *Target) settle(ctx context.Context, size int64) error {
	if err := t.usable(); err != nil {
		return err
	}
	if end := t.bounds.last(); size >= 0 && end > size {
		return fail(TargetError, fmt.Sprintf("setting the size of target: data was written up to byte %d of a disk of %d", end, size))
	}
	if err := t.zeroGaps(ctx); err != nil {
		return err
	}
	if size >= 0 && !t.place.block() {
		if err := t.file.Truncate(size); err != nil {
			return t.failed("setting the size of target", err)
		}
	}
	if err := t.place.mark(t.file); err != nil {
		return t.failed("syncing target", err)
	}
	if err := t.file.Sync(); err != nil {
		return t.failed("syncing target", err)
	}
	if err := setDirect(t.file, false); err != nil {
		return t.failed("syncing target", err)
	}
	t.direct = false
	return nil
}

// Commit settles the disk and makes it visible under its name.
func (t *Target) Commit(ctx context.Context, size int64) error {
	t.gate.Lock()
	defer t.gate.Unlock()
	if err := t.settle(ctx, size); err != nil {
		return err
	}
	if err := t.place.finish(t.file, size); err != nil {
		return err
	}
	return t.shut()
}

// Keep closes the target and leaves everything, so that a later run can Resume. What was not
// synced may be lost. It does nothing before Prepare and after Commit.
func (t *Target) Keep() error {
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.file == nil {
		return nil
	}
	return t.shut()
}

// Discard drops what was written, so that nothing can be mistaken for a disk. It does nothing
// before Prepare and after Commit.
func (t *Target) Discard() error {
	t.gate.Lock()
	defer t.gate.Unlock()
	if t.file == nil {
		return nil
	}
	return errors.Join(t.place.remove(t.file), t.shut())
}

func (t *Target) shut() error {
	f := t.file
	t.file = nil
	if err := f.Close(); err != nil {
		return ioError("closing target", err)
	}
	return nil
}
