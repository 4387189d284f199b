package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// Places in the ext4 super block: linux/Documentation/filesystems/ext4/super.rst.
const (
	superSize       = 1024
	blocksLow       = 0x4
	blockSizeShift  = 0x18 // a block has 1024 bytes shifted left by this
	blocksHigh      = 0x150
	smallestBlock   = 1024
	largestShift    = 6
	errorsCorrected = 1 // e2fsck(8)
)

// grow makes the file system of a device that is not mounted at path as large as
// the device. It does so before the first mount: a mounted one grows only for a
// process with CAP_SYS_RESOURCE, which containers rarely have.
func grow(ctx context.Context, device, path string) error {
	mounted, err := isMount(path)
	if err != nil || mounted {
		return err
	}
	small, err := smallerThanDevice(device)
	if err != nil || !small {
		return err
	}
	// resize2fs wants a file system that was checked since its last mount.
	output, err := exec.CommandContext(ctx, "e2fsck", "-f", "-p", device).CombinedOutput()
	if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != errorsCorrected) {
		return fmt.Errorf("checking the file system on %s: %w: %s", device, err, output)
	}
	if output, err := exec.CommandContext(ctx, "resize2fs", device).CombinedOutput(); err != nil {
		return fmt.Errorf("growing the file system on %s: %w: %s", device, err, output)
	}
	return nil
}

// smallerThanDevice says whether a device has an ext4 file system that does not
// fill it.
func smallerThanDevice(device string) (bool, error) {
	done, err := formatted(device)
	if err != nil || !done {
		return false, err
	}
	file, err := os.Open(device)
	if err != nil {
		return false, fmt.Errorf("opening %s: %w", device, err)
	}
	defer func() { _ = file.Close() }() // only read
	super := make([]byte, superSize)
	if _, err := file.ReadAt(super, superOffset); err != nil {
		return false, fmt.Errorf("reading %s: %w", device, err)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return false, fmt.Errorf("measuring %s: %w", device, err)
	}
	shift := binary.LittleEndian.Uint32(super[blockSizeShift:])
	if shift > largestShift {
		return false, fmt.Errorf("reading the file system on %s: its blocks cannot be so large", device)
	}
	block := uint64(smallestBlock) << shift
	blocks := uint64(binary.LittleEndian.Uint32(super[blocksHigh:]))<<32 | uint64(binary.LittleEndian.Uint32(super[blocksLow:]))
	return blocks < uint64(size)/block, nil
}
