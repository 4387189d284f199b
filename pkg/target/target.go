// Package target writes a flat disk to a volume: a block device, a file, or disk.img in a directory.
//
// One descriptor is open from before the first write until after the last sync. The kernel
// reports a lost write once, to whoever asks first; with one descriptor that is always us.
package target

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// DiskName is the file in a directory, as KubeVirt expects it.
	DiskName = "disk.img"
	// diskMode lets the group of the volume (fsGroup) write, as KubeVirt does.
	diskMode = 0o660
	// block is the unit of holes: blocks of zeros are not written.
	block = 4096
)

// Target is one volume. Its methods are called in this order: Open, then Prepare or Resume,
// then WriteAt and Sync by as many goroutines as like, then Commit, Keep or Discard. Prepare
// may be called again to start over. After an error of the volume nothing can be written any
// more: every later call returns that first error.
type Target struct {
	path  string
	place place

	// gate is held shared by those who write and sync, and alone by those who open, zero and
	// close. What follows changes only under it.
	gate    sync.RWMutex
	file    *os.File
	direct  bool
	align   alignment
	size    int64
	granule int64
	zeroed  atomic.Bool
	marked  atomic.Bool
	// noZeroRange tells that the kernel once could not zero a range.
	noZeroRange bool

	covered ranges
	bounds  bounds
	buffers buffers
	written atomic.Int64
	broken  atomic.Pointer[error]

	// syncs is held by whoever asks for the errors of stored pages. The kernel tells each of
	// them once: nobody may be told that all is well while another holds the bad news. It is
	// taken after gate.
	syncs     sync.Mutex
	unstarted atomic.Int64
	unsynced  atomic.Int64
}

// place is what differs between a block device and a file.
type place interface {
	// open returns the descriptor for all writes, emptied. flags holds O_DIRECT or nothing.
	open(flags int) (*os.File, error)
	// reopen returns the descriptor of what an earlier run left.
	reopen(flags int) (*os.File, error)
	// capacity is the largest raw disk in bytes.
	capacity() int64
	// needs is the size in bytes of a volume that holds a raw disk of size bytes.
	needs(size int64) int64
	// full says what to do when the volume is full and does not hold a disk of size bytes yet.
	full(size int64) string
	// mark tells later runs that there is something to resume; unmark takes that back.
	mark(f *os.File) error
	unmark(f *os.File) error
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
	return at(path, p), nil
}

func at(path string, p place) *Target {
	return &Target{path: path, place: p, covered: ranges{limit: maxRanges}, buffers: newBuffers()}
}

func lookAt(path string) (place, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist) && strings.HasPrefix(filepath.Clean(path), "/dev/"):
		// A mistyped device would become a file in the memory of the machine.
		return nil, fail(TargetError, fmt.Sprintf("opening target: there is no %s: check the name of the device", path))
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
	return fail(TooLarge, fmt.Sprintf("the disk has %d bytes and %s has room for %d: ask for a volume of at least %s",
		size, t.place, t.place.capacity(), quantity(t.place.needs(size))))
}

// File is the open descriptor, for a tool that writes to the same inode.
func (t *Target) File() *os.File { return t.file }

// Written counts the bytes of data written by WriteAt since Prepare or Resume. Holes do not
// count.
func (t *Target) Written() int64 { return t.written.Load() }

// Zeroed tells that what nobody wrote reads as zero already, and will after a loss of power. A
// checkpoint is worth something only then: Resume does not know what was written. It is true
// after Prepare, but for devices that cannot punch holes; there ZeroAll makes it true.
func (t *Target) Zeroed() bool { return t.zeroed.Load() }

// usable tells why nothing can be written. gate is held.
func (t *Target) usable() error {
	if err := t.broken.Load(); err != nil {
		return *err
	}
	if t.file == nil {
		return fail(TargetError, "writing target: it is not open")
	}
	return nil
}

// failed gives a failed system call its reason and makes it the answer to every later call,
// unless there is one already.
func (t *Target) failed(message string, err error) error {
	failure := ioError(message, err)
	if failure.reason == NoSpace {
		failure.message += ": " + t.place.full(max(t.size, t.bounds.last()))
	}
	err = failure
	t.broken.CompareAndSwap(nil, &err)
	return *t.broken.Load()
}
