package exporter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// diskName is the file on a Filesystem volume, as KubeVirt expects it.
const diskName = "disk.img"

// errChanged is what a read ends with when somebody writes to the volume.
var errChanged = errors.New("the disk changed while it was read")

// volume is what is exported, open for reading alone.
type volume struct {
	file   *os.File
	device bool
	// opened stands for the time of the last change of a device, which has none: what a later
	// exporter reads may have been written since.
	opened time.Time
}

// state is what changes when somebody writes to a file.
type state struct {
	size    int64
	changed time.Time
}

// openVolume opens the block device at path, or disk.img in the directory at path.
func openVolume(path string, now time.Time) (*volume, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	v := &volume{opened: now}
	switch {
	case info.IsDir():
		v.file, err = openDisk(path)
	case isBlock(info):
		v.device = true
		if v.file, err = os.Open(path); err != nil {
			err = openError(path, err)
		}
	default:
		err = fail(SourceRefused, fmt.Sprintf("opening volume: %s is neither a block device nor a directory", path))
	}
	if err != nil {
		return nil, err
	}
	if err := v.check(info); err != nil {
		_ = v.file.Close()
		return nil, err
	}
	return v, nil
}

// check refuses what took the place of the file or device that was looked at, and what is empty.
func (v *volume) check(device os.FileInfo) error {
	if v.device {
		info, err := v.file.Stat()
		if err != nil {
			return failBy(SourceRefused, "opening volume", err)
		}
		if !os.SameFile(info, device) || !isBlock(info) {
			return fail(SourceRefused, "opening volume: the block device was replaced meanwhile")
		}
	}
	s, err := v.state()
	if err != nil {
		return err
	}
	if s.size == 0 {
		return fail(SourceRefused, "opening volume: the disk has no bytes")
	}
	return nil
}

// openDisk opens disk.img in the directory dir. A link could lead to any file of the pod.
func openDisk(dir string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, openError(dir, err)
	}
	defer func() { _ = root.Close() }()
	before, err := root.Lstat(diskName)
	if err != nil {
		return nil, openError(dir+"/"+diskName, err)
	}
	if !before.Mode().IsRegular() {
		return nil, fail(SourceRefused, "opening volume: its "+diskName+" is no regular file")
	}
	// Whatever takes its place meanwhile must not block.
	f, err := root.OpenFile(diskName, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, openError(dir+"/"+diskName, err)
	}
	after, err := f.Stat()
	if err != nil || !os.SameFile(before, after) {
		_ = f.Close()
		return nil, fail(SourceRefused, "opening volume: its "+diskName+" was replaced meanwhile")
	}
	return f, nil
}

func openError(path string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail(NotFound, fmt.Sprintf("opening volume: there is no %s: the volume holds no disk", path))
	case errors.Is(err, os.ErrPermission):
		return fail(SourceRefused, fmt.Sprintf("opening volume: user %d may not read %s: give the file to its group, for example", os.Geteuid(), path))
	}
	return failBy(SourceRefused, "opening volume", err)
}

func isBlock(info os.FileInfo) bool {
	return info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0
}

// state looks at the volume as it is now.
func (v *volume) state() (state, error) {
	if v.device {
		size, err := deviceSize(v.file)
		if err != nil {
			return state{}, failBy(SourceRefused, "reading the size of the block device", err)
		}
		return state{size: size, changed: v.opened}, nil
	}
	info, err := v.file.Stat()
	if err != nil {
		return state{}, failBy(SourceRefused, "looking at the disk", err)
	}
	return state{size: info.Size(), changed: info.ModTime()}, nil
}

// deviceSize is the size of a block device in bytes. Nobody reads at the place that seeking leaves.
func deviceSize(f *os.File) (int64, error) { return f.Seek(0, io.SeekEnd) }

// content reads a volume as long as it stays in one state. It is for one goroutine.
type content struct {
	volume *volume
	state  state
	offset int64
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	n, err := io.NewSectionReader(c.volume.file, 0, c.state.size).ReadAt(p, c.offset)
	c.offset += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	if now, stateErr := c.volume.state(); stateErr != nil || !now.same(c.state) {
		return 0, errChanged
	}
	return n, err
}

// Seek implements io.Seeker.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += c.offset
	case io.SeekEnd:
		offset += c.state.size
	}
	if offset < 0 {
		return 0, errors.New("seeking before the first byte")
	}
	c.offset = offset
	return offset, nil
}

func (s state) same(other state) bool { return s.size == other.size && s.changed.Equal(other.changed) }
