package target

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Prepare opens the target, drops its old content and gives a file size bytes of zeros; 0 when
// the size is not known. After it, all that is not written reads as zero at the latest after
// Settle. Offsets and lengths of WriteAt are multiples of granule bytes, a power of two of at
// least 512: from 4096 on, and when the device allows, writes bypass the page cache. It takes
// time on devices; ctx ends it between steps.
func (t *Target) Prepare(ctx context.Context, size, granule int64) error {
	t.gate.Lock()
	defer t.gate.Unlock()
	if err := t.broken.Load(); err != nil {
		return *err
	}
	if t.place.block() && size > t.place.capacity() {
		return t.Fits(size)
	}
	if t.file == nil {
		if err := t.open(t.place.open); err != nil {
			return err
		}
	} else if err := t.place.unmark(t.file); err != nil {
		return t.failed("emptying target", err)
	}
	if err := t.begin(size, granule); err != nil {
		return err
	}
	if t.place.block() {
		return t.zeroDevice(ctx)
	}
	for _, length := range []int64{0, size} {
		if err := t.file.Truncate(length); err != nil {
			return t.failed("emptying target", err)
		}
	}
	t.zeroed.Store(true)
	return nil
}

// Resume opens the target like Prepare, but keeps what an earlier run wrote and kept. That run
// must have been Zeroed when it wrote the checkpoint. An error means that there is nothing to
// go on with: Prepare can be called after it. A file must have been synced once, have the same
// size, have one name and belong to us. A device says nothing of its content: only a
// checkpoint that was made on this device and is not older than its last Prepare or Discard is
// good.
func (t *Target) Resume(ctx context.Context, size, granule int64) error {
	t.gate.Lock()
	defer t.gate.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case t.broken.Load() != nil:
		return *t.broken.Load()
	case t.file != nil:
		return fail(TargetError, "resuming target: it is open already")
	case size <= 0:
		return fail(TargetError, "resuming target: a disk of unknown size cannot be resumed")
	case t.place.block() && size > t.place.capacity():
		return t.Fits(size)
	}
	if err := t.open(t.place.reopen); err != nil {
		return err
	}
	if err := t.take(size, granule); err != nil {
		f := t.file
		t.file = nil
		return errors.Join(err, f.Close())
	}
	return nil
}

// take makes what was reopened ours.
func (t *Target) take(size, granule int64) error {
	if err := t.begin(size, granule); err != nil {
		return err
	}
	// What an earlier run lost is told now, and then nothing of it can be trusted.
	if err := unix.Fdatasync(int(t.file.Fd())); err != nil {
		return ioError("resuming target: syncing it", err)
	}
	if !t.place.block() {
		info, err := t.file.Stat()
		if err != nil {
			return ioError("resuming target", err)
		}
		// The last write may have filled up the last block.
		if got := info.Size(); got != size && got != roundUp(size, max(t.align.offset, 1)) {
			return fail(TargetError, fmt.Sprintf("resuming target: the unfinished file has %d bytes in place of %d", got, size))
		}
	}
	t.zeroed.Store(true)
	t.marked.Store(true)
	return nil
}

func (t *Target) open(by func(flags int) (*os.File, error)) error {
	f, err := by(unix.O_DIRECT)
	direct := err == nil
	if errors.Is(err, unix.EINVAL) {
		// Some file systems refuse direct I/O.
		f, err = by(0)
	}
	if err != nil {
		return ioError("opening target "+t.path, err)
	}
	align, err := alignmentOf(f)
	if err != nil {
		return errors.Join(ioError("opening target", err), f.Close())
	}
	if !direct {
		align.offset = 0
	}
	t.file, t.align = f, align
	return nil
}

// begin forgets what was written and chooses between direct and buffered writes.
func (t *Target) begin(size, granule int64) error {
	if granule < 512 || granule&(granule-1) != 0 {
		return fail(TargetError, fmt.Sprintf("preparing target: %d bytes is no granule: it is a power of two of at least 512", granule))
	}
	t.size, t.granule = size, granule
	t.direct = t.align.offset > 0 && granule >= block && granule >= t.align.offset
	if err := setDirect(t.file, t.direct); err != nil {
		return t.failed("opening target", err)
	}
	t.zeroed.Store(false)
	t.marked.Store(false)
	t.noZeroRange = false
	t.covered.reset()
	t.bounds.reset()
	t.written.Store(0)
	t.unstarted.Store(0)
	t.unsynced.Store(0)
	return nil
}
