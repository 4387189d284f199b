// Package target writes a flat disk to a volume: a block device, a file, or disk.img in a directory.
//
// One descriptor is open from before the first write until after the last sync. The kernel
// reports a lost write once, to whoever asks first; with one descriptor that is always us.
package target

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const (
	// DiskName is the file in a directory, as KubeVirt expects it.
	DiskName = "disk.img"
	// diskMode lets the group of the volume (fsGroup) write, as KubeVirt does.
	diskMode = 0o660
	// block is the unit of holes: blocks of zeros are not written.
	block = 4096
)

// Target is one volume. Its methods must be called in this order: Open, Prepare, WriteAt …,
// then Commit or Discard. Prepare may be called again to start over.
type Target struct {
	path   string
	place  place
	file   *os.File
	direct bool
	align  alignment
	zero   zeroing

	inOrder  bool
	next     int64 // everything below is written or zero, when inOrder
	unsynced int64
	written  int64
	broken   error
}

// place is what differs between a block device and a file.
type place interface {
	// open returns the descriptor for all writes, emptied. flags holds O_DIRECT or nothing.
	open(flags int) (*os.File, error)
	// capacity is the largest raw disk in bytes.
	capacity() int64
	// tooLarge says what to ask for when a disk of size bytes does not fit.
	tooLarge(size int64) error
	// finish makes the synced file the disk of size bytes.
	finish(f *os.File, size int64) error
	// remove leaves nothing that looks like a disk.
	remove(f *os.File) error
	// block tells that the size is fixed and old bytes must be zeroed.
	block() bool
	// String describes the place for people.
	String() string
}

// Open looks at path and changes nothing. path is a block device, a directory, or a file to
// create or replace; its directory must exist.
func Open(path string) (*Target, error) {
	p, err := lookAt(path)
	if err != nil {
		return nil, err
	}
	return &Target{path: path, place: p}, nil
}

func lookAt(path string) (place, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return newFile(path)
	case err != nil:
		return nil, failBy(TargetError, "opening target", err)
	case info.IsDir():
		return newDirectory(path)
	case info.Mode().IsRegular():
		return newFile(path)
	case info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0:
		return newDevice(path)
	}
	return nil, fail(TargetError, fmt.Sprintf("opening target: %s is no block device, file or directory", path))
}

// String describes the target for people.
func (t *Target) String() string { return t.place.String() }

// Block tells a block device from a file.
func (t *Target) Block() bool { return t.place.block() }

// Capacity is the size in bytes of the largest raw disk that fits. What an earlier attempt
// left behind does not count as used.
func (t *Target) Capacity() int64 { return t.place.capacity() }

// Fits returns an error with the size to ask for when a raw disk of size bytes does not fit.
func (t *Target) Fits(size int64) error {
	if size <= t.place.capacity() {
		return nil
	}
	return t.place.tooLarge(size)
}

// Prepare opens the target, drops its old content and gives a file size bytes of zeros. After
// it, all that is not written reads as zero at the latest after Settle. With inOrder, WriteAt
// must come with growing offsets: a device that cannot be zeroed cheaply is then written only
// once. It takes time on devices; ctx ends it between steps.
func (t *Target) Prepare(ctx context.Context, size int64, inOrder bool) error {
	if t.file == nil {
		if err := t.open(); err != nil {
			return err
		}
	}
	if !t.place.block() {
		for _, length := range []int64{0, size} {
			if err := t.file.Truncate(length); err != nil {
				return ioError("emptying target", err)
			}
		}
	}
	t.inOrder, t.next, t.written, t.unsynced = inOrder, 0, 0, 0
	if !t.place.block() {
		t.zero = zeroed
		return nil
	}
	return t.prepareDevice(ctx)
}

func (t *Target) open() error {
	f, err := t.place.open(unix.O_DIRECT)
	t.direct = err == nil
	if errors.Is(err, unix.EINVAL) {
		// Some file systems refuse direct I/O.
		f, err = t.place.open(0)
	}
	if err != nil {
		return ioError("opening target "+t.path, err)
	}
	t.file = f
	t.align, err = alignmentOf(f)
	if err != nil {
		return ioError("opening target", err)
	}
	if t.direct && t.align.offset == 0 {
		t.direct = false
		if err := clearDirect(f); err != nil {
			return ioError("opening target", err)
		}
	}
	return nil
}

// File is the open descriptor, for a tool that writes to the same inode.
func (t *Target) File() *os.File { return t.file }

// Written counts the bytes of data written by WriteAt. Holes do not count.
func (t *Target) Written() int64 { return t.written }

// Settle sets the size of a file to size bytes, unless that is negative, zeroes what nobody
// wrote, and stores all. Any error of any sync is final: the kernel would not report it
// again. After it, File can be read at any offset.
func (t *Target) Settle(ctx context.Context, size int64) error {
	if t.broken != nil {
		return t.broken
	}
	if err := t.settle(ctx, size); err != nil {
		t.broken = err
		return err
	}
	return nil
}

func (t *Target) settle(ctx context.Context, size int64) error {
	if err := t.zeroRest(ctx); err != nil {
		return err
	}
	if size >= 0 && !t.place.block() {
		if err := t.file.Truncate(size); err != nil {
			return ioError("setting the size of target", err)
		}
	}
	if err := t.file.Sync(); err != nil {
		return ioError("syncing target", err)
	}
	if err := clearDirect(t.file); err != nil {
		return ioError("syncing target", err)
	}
	t.direct = false
	return nil
}

// Commit settles the disk and makes it visible under its name.
func (t *Target) Commit(ctx context.Context, size int64) error {
	if err := t.Settle(ctx, size); err != nil {
		return err
	}
	if err := t.place.finish(t.file, size); err != nil {
		return err
	}
	f := t.file
	t.file = nil
	if err := f.Close(); err != nil {
		return ioError("closing target", err)
	}
	return nil
}

// Discard drops what was written, so that nothing can be mistaken for a disk. It does nothing
// before Prepare and after Commit.
func (t *Target) Discard() error {
	if t.file == nil {
		return nil
	}
	f := t.file
	t.file = nil
	return errors.Join(t.place.remove(f), f.Close())
}
