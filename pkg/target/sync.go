package target

import (
	"context"

	"golang.org/x/sys/unix"
)

// Dirty pages count against the memory of a pod, and a flood of them at the end makes the last
// sync slow. So, where direct I/O is refused, the kernel is told to start storing after every
// startEvery bytes, and is waited for after every waitEvery bytes. While one goroutine waits,
// the others write at most that much again: twice waitEvery bytes are dirty at any time, and
// what the goroutines hold in their hands.
const (
	startEvery = 8 << 20
	waitEvery  = 32 << 20
)

// Sync stores what WriteAt wrote before: it survives a loss of power. Others may write
// meanwhile. Its error is final for the target.
func (t *Target) Sync(ctx context.Context) error {
	if err := t.syncShared(ctx); err != nil {
		return err
	}
	// A write that failed meanwhile may have taken the bad news away. Wait until it has told.
	t.gate.Lock()
	defer t.gate.Unlock()
	return t.usable()
}

func (t *Target) syncShared(ctx context.Context) error {
	t.gate.RLock()
	defer t.gate.RUnlock()
	if err := t.usable(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.syncs.Lock()
	defer t.syncs.Unlock()
	if err := t.datasync(); err != nil {
		return err
	}
	if t.marked.Load() {
		return nil
	}
	if err := t.place.mark(t.file); err != nil {
		return t.failed("syncing target", err)
	}
	t.marked.Store(true)
	return nil
}

// datasync stores all that is dirty. syncs is held, or gate is held alone.
func (t *Target) datasync() error {
	if err := t.usable(); err != nil {
		return err
	}
	// Pages that are counted from here on may be stored now or the next time.
	t.unsynced.Store(0)
	t.unstarted.Store(0)
	err := unix.EINTR
	for err == unix.EINTR {
		err = errno(unix.Fdatasync(int(t.file.Fd())))
	}
	if err != 0 {
		return t.failed("syncing target", err)
	}
	return nil
}

// behind stores n more bytes of dirty pages when there are enough.
func (t *Target) behind(n int64) error {
	if t.direct {
		return nil
	}
	unstarted, unsynced := t.unstarted.Add(n), t.unsynced.Add(n)
	switch {
	case unsynced >= waitEvery:
		t.syncs.Lock()
		defer t.syncs.Unlock()
		if t.unsynced.Load() < waitEvery {
			return t.usable()
		}
		return t.datasync()
	case unstarted >= startEvery && t.syncs.TryLock():
		defer t.syncs.Unlock()
		t.unstarted.Store(0)
		// Only the flag WRITE: the WAIT flags would take the error away from the next sync.
		if err := unix.SyncFileRange(int(t.file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE); err != nil {
			return t.failed("writing target", err)
		}
	}
	return nil
}
