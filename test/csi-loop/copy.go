package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyImage makes target a copy of the file source. It shares the blocks where
// the file system can, and else copies what is not a hole.
func copyImage(target, source string) (err error) {
	from, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("opening the image to copy: %w", err)
	}
	defer func() { _ = from.Close() }() // only read
	to, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("making the copy: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	err = unix.IoctlFileClone(int(to.Fd()), int(from.Fd()))
	if err == nil || !cannotShare(err) {
		return err
	}
	return copyData(to, from)
}

// cannotShare says whether FICLONE failed because these two files cannot share
// blocks: ioctl_ficlonerange(2).
func cannotShare(err error) bool {
	for _, reason := range []error{unix.EOPNOTSUPP, unix.EXDEV, unix.EINVAL, unix.ENOTTY, unix.ENOSYS} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

// copyData copies what is data in from to the same place in the empty file to;
// the rest of to is a hole. Both have the same length then.
func copyData(to, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return fmt.Errorf("measuring the image to copy: %w", err)
	}
	if err := to.Truncate(info.Size()); err != nil {
		return fmt.Errorf("making the copy: %w", err)
	}
	for offset := int64(0); offset < info.Size(); {
		start, err := from.Seek(offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // a hole to the end
		}
		if err != nil {
			return fmt.Errorf("finding data: %w", err)
		}
		end, err := from.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return fmt.Errorf("finding the end of data: %w", err)
		}
		if err := copyRange(to, from, start, end); err != nil {
			return err
		}
		offset = end
	}
	return nil
}

func copyRange(to, from *os.File, start, end int64) error {
	for _, file := range []*os.File{from, to} {
		if _, err := file.Seek(start, io.SeekStart); err != nil {
			return fmt.Errorf("finding the place to copy: %w", err)
		}
	}
	if _, err := io.CopyN(to, from, end-start); err != nil {
		return fmt.Errorf("copying %d bytes at %d: %w", end-start, start, err)
	}
	return nil
}
