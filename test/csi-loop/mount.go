package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	fileSystem  = "ext4"
	superOffset = 1024 // of the ext4 super block; its magic number is 56 bytes into it
	magicOffset = superOffset + 56
)

// formatted says whether the device holds an ext4 file system.
func formatted(device string) (bool, error) {
	file, err := os.Open(device)
	if err != nil {
		return false, fmt.Errorf("opening %s: %w", device, err)
	}
	defer func() { _ = file.Close() }() // only read
	magic := make([]byte, 2)
	if _, err := file.ReadAt(magic, magicOffset); err != nil {
		return false, fmt.Errorf("reading %s: %w", device, err)
	}
	return bytes.Equal(magic, []byte{0x53, 0xef}), nil
}

// mountDevice mounts the device's file system at path, making it first on a
// device that has none. A path that is mounted already is left alone.
func mountDevice(ctx context.Context, device, path string) error {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return fmt.Errorf("making a mount point: %w", err)
	}
	mounted, err := isMount(path)
	if err != nil || mounted {
		return err
	}
	done, err := formatted(device)
	if err != nil {
		return err
	}
	if !done {
		// The discard is for disks; a sparse file has nothing to discard.
		output, err := exec.CommandContext(ctx, "mkfs."+fileSystem, "-q", "-m0", "-E", "nodiscard", device).CombinedOutput()
		if err != nil {
			return fmt.Errorf("making a file system on %s: %w: %s", device, err, output)
		}
	}
	if err := unix.Mount(device, path, fileSystem, 0, ""); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", device, path, err)
	}
	return nil
}

// emptyFolder and emptyFile make what a bind mount covers.
func emptyFolder(path string) error { return os.MkdirAll(path, 0o750) }

func emptyFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o660)
	if err != nil {
		return err
	}
	return file.Close()
}

// bind shows source at path. A path that is mounted already is left alone.
func bind(source, path string, makeTarget func(string) error, readOnly bool) error {
	if err := makeTarget(path); err != nil {
		return fmt.Errorf("making a mount point: %w", err)
	}
	mounted, err := isMount(path)
	if err != nil || mounted {
		return err
	}
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", source, path, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return errors.Join(fmt.Errorf("making %s read-only: %w", path, err), unmount(path))
	}
	return nil
}

// unmount unmounts whatever is mounted at path; nothing is no error.
func unmount(path string) error {
	for {
		mounted, err := isMount(path)
		if err != nil || !mounted {
			return err
		}
		if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmounting %s: %w", path, err)
		}
	}
}

// isMount says whether something is mounted at path itself.
func isMount(path string) (bool, error) {
	var facts unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &facts)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking at %s: %w", path, err)
	}
	return facts.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
