package target

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// device is a block device: a volume of the mode Block.
type device struct {
	path string
	size int64
}

func newDevice(path string) (*device, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, ioError("opening target "+path, err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, ioError("reading the size of target "+path, err)
	}
	if size == 0 {
		return nil, fail(TargetError, "opening target: the block device has no size")
	}
	return &device{path: path, size: size}, nil
}

func (d *device) open(flags int) (*os.File, error) {
	f, err := d.reopen(flags)
	if err != nil {
		return nil, err
	}
	// What an earlier writer lost is told to the next one who syncs. It was his: drop it.
	_ = unix.Fdatasync(int(f.Fd()))
	return f, nil
}

// reopen keeps what an earlier writer lost for the first sync.
func (d *device) reopen(flags int) (*os.File, error) {
	// O_EXCL on a device means: nobody has it mounted or opened like this.
	return os.OpenFile(d.path, os.O_RDWR|unix.O_EXCL|flags, 0)
}

// mark does nothing: a device has no place for it.
func (d *device) mark(*os.File) error { return nil }

func (d *device) unmark(*os.File) error { return nil }

func (d *device) capacity() int64 { return d.size }

func (d *device) needs(size int64) int64 { return roundUp(size, 1<<20) }

func (d *device) full(int64) string { return "the storage behind the block device has no room left" }

func (d *device) finish(*os.File, int64) error { return nil }

// remove wipes the places where partition tables and file systems are looked for.
func (d *device) remove(f *os.File) error {
	if err := setDirect(f, false); err != nil {
		return ioError("wiping target", err)
	}
	zeros := make([]byte, min(1<<20, d.size))
	for _, off := range []int64{0, d.size - int64(len(zeros))} {
		if _, err := f.WriteAt(zeros, off); err != nil {
			return ioError("wiping target", err)
		}
	}
	if err := f.Sync(); err != nil {
		return ioError("wiping target", err)
	}
	return nil
}

func (d *device) block() bool { return true }

func (d *device) String() string { return "block device " + d.path }
