package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/test/corpus"
)

const mib = 1 << 20

// volume is a target, made anew for each run.
type volume struct {
	// path is what is written to, file where the bytes are.
	path, file string
	loop       bool
}

// newVolume makes an empty folder for a file, or a block device of size bytes with old bytes in
// every 64th MiB.
func newVolume(ctx context.Context, dir, target string, size int64) (*volume, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	v := &volume{file: filepath.Join(dir, "disk.raw")}
	v.path = v.file
	if target == toFile {
		return v, nil
	}
	f, err := os.Create(v.file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(size); err != nil {
		return nil, err
	}
	old := []byte(strings.Repeat("\xff", mib))
	for off := int64(0); off < size; off += 64 * mib {
		if _, err := f.WriteAt(old, off); err != nil {
			return nil, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "losetup", "--find", "--show", "--direct-io=on", v.file).Output()
	if err != nil {
		return nil, fmt.Errorf("making a loop device: %w", err)
	}
	v.path, v.loop = strings.TrimSpace(string(out)), true
	return v, nil
}

// remove frees the volume. It does not take a context: it must also run at the end.
func (v *volume) remove() error {
	var err error
	if v.loop {
		err = exec.Command("losetup", "--detach", v.path).Run()
	}
	return errors.Join(err, os.RemoveAll(filepath.Dir(v.file)))
}

// check compares what was written with the disk.
func (v *volume) check(want corpus.Content) error {
	got, err := contentOf(v.file, want.Size)
	if err != nil {
		return err
	}
	if got != want {
		return errors.New("the target is not the disk of the source")
	}
	return nil
}

// contentOf reads a sparse file as a disk of size bytes.
func contentOf(path string, size int64) (corpus.Content, error) {
	f, err := os.Open(path)
	if err != nil {
		return corpus.Content{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return corpus.Content{}, err
	}
	return corpus.ContentOf(f, size, info.Size(), corpus.WithData(f, info.Size()), make([]byte, mib))
}

// writeDense copies the data of a sparse file without its holes.
func writeDense(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	dense, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { _ = dense.Close() }()
	buffer := make([]byte, mib)
	for off := int64(0); ; {
		start, err := unix.Seek(int(source.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return dense.Sync()
		}
		if err != nil {
			return fmt.Errorf("finding data in %s: %w", from, err)
		}
		if off, err = unix.Seek(int(source.Fd()), start, unix.SEEK_HOLE); err != nil {
			return fmt.Errorf("finding data in %s: %w", from, err)
		}
		for start < off {
			part := buffer[:min(mib, off-start)]
			if _, err := source.ReadAt(part, start); err != nil {
				return err
			}
			if _, err := dense.Write(part); err != nil {
				return err
			}
			start += int64(len(part))
		}
	}
}
