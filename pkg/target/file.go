package target

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// file is a disk image in a file system. It is written under another name and renamed when
// all is synced: whatever is killed, a file with the disk's name is a whole disk.
type file struct {
	path string
	free int64
	// volume tells that the directory is a volume of its own, where the old disk may be
	// dropped before the new one is written: there is no room for both.
	volume bool
}

func newFile(path string) (*file, error) {
	f := &file{path: path}
	var err error
	f.free, err = freeBytes(filepath.Dir(path), f.partial())
	return f, err
}

func newDirectory(path string) (*file, error) {
	f := &file{path: filepath.Join(path, DiskName), volume: true}
	if info, err := os.Lstat(f.path); err == nil && !info.Mode().IsRegular() {
		return nil, fail(TargetError, fmt.Sprintf("opening target: %s is there and is no file", f.path))
	}
	var err error
	f.free, err = freeBytes(path, f.partial(), f.path)
	return f, err
}

// freeBytes is what may be written below dir when the files named old are dropped.
func freeBytes(dir string, old ...string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, failBy(TargetError, "opening target: "+dir+" cannot be used: make that directory first, or check its permissions", err)
	}
	// Blocks are counted in fragments where a file system has them.
	unit := s.Frsize
	if unit <= 0 {
		unit = max(s.Bsize, 1)
	}
	// Some network file systems claim more than a number of bytes can say.
	free := int64(min(s.Bavail, uint64(math.MaxInt64/2/unit))) * unit //nolint:gosec // both are positive and small enough
	for _, path := range old {
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG && stat.Nlink == 1 {
			free += stat.Blocks * 512
		}
	}
	return free, nil
}

// capacity leaves room for the file system's own records of a large file.
func (f *file) capacity() int64 { return max(f.free-f.free/4096-64<<10, 0) / 512 * 512 }

func (f *file) needs(size int64) int64 { return claimSize(size) }

func (f *file) full(size int64) string {
	free, err := freeBytes(filepath.Dir(f.path), f.partial())
	if err != nil {
		free = f.free
	}
	return fmt.Sprintf("it has room for %d bytes, and a disk of %d bytes needs a volume of at least %s", free, size, quantity(claimSize(size)))
}

func (f *file) finish(file *os.File, size int64) error {
	info, err := file.Stat()
	if err != nil {
		return ioError("finishing target", err)
	}
	if size >= 0 && info.Size() != size {
		return fail(TargetError, fmt.Sprintf("finishing target: it has %d bytes in place of %d", info.Size(), size))
	}
	// Somebody who runs a second import into the same place must not have his half disk published.
	if !f.ours(file) {
		return fail(TargetError, fmt.Sprintf("finishing target: somebody else replaced %s meanwhile", f.partial()))
	}
	if err := os.Rename(f.partial(), f.path); err != nil {
		return ioError("finishing target", err)
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return ioError("finishing target", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return ioError("finishing target", err)
	}
	return nil
}

func (f *file) remove(file *os.File) error {
	if !f.ours(file) {
		return nil
	}
	if err := os.Remove(f.partial()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ioError("removing the unfinished target", err)
	}
	return nil
}

func (f *file) block() bool { return false }

func (f *file) String() string { return "file " + f.path }
