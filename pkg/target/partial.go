package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// freshMode is the mode of a disk until it was synced once. A run that is killed before leaves
// nothing that looks like what an older checkpoint tells of.
const freshMode = 0o600

// errNoLocks is the answer of file systems that cannot lock.
var errNoLocks = errors.New("the file system has no locks")

func (f *file) partial() string { return f.path + ".partial" }

// open makes the unfinished file anew. What an earlier run left is removed, not reused: it
// could be a link to something else.
func (f *file) open(flags int) (*os.File, error) {
	old, err := f.leftover(0)
	if err == nil {
		// Closing it gives the lock up, when the new file has its own.
		defer func() { _ = old.Close() }()
		if err := f.own(old); err != nil && !errors.Is(err, errNoLocks) {
			return nil, err
		}
	}
	if err := f.dropOld(); err != nil {
		return nil, err
	}
	// Only what was there and is ours now: another run may have made a new one meanwhile.
	if !errors.Is(err, fs.ErrNotExist) {
		if err := os.Remove(f.partial()); err != nil {
			return nil, err
		}
	}
	file, err := os.OpenFile(f.partial(), os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW|flags, freshMode)
	if errors.Is(err, fs.ErrExist) {
		return nil, unix.EBUSY
	}
	if err != nil {
		return nil, err
	}
	if err := f.own(file); err != nil && !errors.Is(err, errNoLocks) {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// leftover opens the unfinished file of an earlier run.
func (f *file) leftover(flags int) (*os.File, error) {
	// Opening a device or a pipe may do something to it.
	info, err := os.Lstat(f.partial())
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fail(TargetError, f.partial()+" is no file")
	}
	return os.OpenFile(f.partial(), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0)
}

// dropOld removes the old disk where there is no room for two.
func (f *file) dropOld() error {
	if !f.volume {
		return nil
	}
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// reopen opens the unfinished file of an earlier run, if nobody else can have a hand in it.
func (f *file) reopen(flags int) (*os.File, error) {
	file, err := f.leftover(flags)
	if err != nil {
		return nil, err
	}
	if err := f.claim(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func (f *file) claim(file *os.File) error {
	if err := f.own(file); err != nil {
		return err
	}
	var s unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &s); err != nil {
		return err
	}
	switch {
	case s.Mode&unix.S_IFMT != unix.S_IFREG:
		return fail(TargetError, fmt.Sprintf("%s is no file", f.partial()))
	case int64(s.Uid) != int64(os.Geteuid()):
		return fail(TargetError, fmt.Sprintf("%s belongs to somebody else", f.partial()))
	case s.Nlink != 1:
		return fail(TargetError, fmt.Sprintf("%s has another name too", f.partial()))
	case s.Mode&0o777 != diskMode:
		return fail(TargetError, fmt.Sprintf("nothing in %s was ever synced", f.partial()))
	}
	return f.dropOld()
}

// own locks the file and makes sure that it still has the name. The lock belongs to the
// descriptor: a tool that writes through it holds the lock too, whatever becomes of us.
func (f *file) own(file *os.File) error {
	if err := lock(file); err != nil {
		return err
	}
	if !f.ours(file) {
		return unix.EBUSY
	}
	return nil
}

func lock(file *os.File) error {
	err := unix.EINTR
	for err == unix.EINTR {
		err = errno(unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB))
	}
	switch err {
	case 0:
		return nil
	case unix.EWOULDBLOCK:
		return unix.EBUSY
	}
	return fmt.Errorf("%w: %w", errNoLocks, err)
}

// ours tells whether the unfinished file is still the one that was opened.
func (f *file) ours(file *os.File) bool {
	opened, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(f.partial())
	return err == nil && os.SameFile(opened, there)
}

// mark sets the final mode. The umask of a shell must not decide who may use the disk.
func (f *file) mark(file *os.File) error { return file.Chmod(diskMode) }

func (f *file) unmark(file *os.File) error { return file.Chmod(freshMode) }
