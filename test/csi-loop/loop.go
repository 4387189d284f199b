package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	loopControl = "/dev/loop-control"
	loopMajor   = 7 // linux/Documentation/admin-guide/devices.txt
	blockDir    = "/sys/block"
	attachTries = 20
)

// findLoops returns the loop devices that show the file.
func findLoops(file string) ([]string, error) {
	entries, err := filepath.Glob(filepath.Join(blockDir, "loop*", "loop", "backing_file"))
	if err != nil {
		return nil, fmt.Errorf("listing loop devices: %w", err)
	}
	var devices []string
	for _, entry := range entries {
		content, err := os.ReadFile(entry)
		if err != nil {
			continue // freed since the listing
		}
		if strings.TrimSpace(string(content)) == file {
			devices = append(devices, filepath.Join("/dev", filepath.Base(filepath.Dir(filepath.Dir(entry)))))
		}
	}
	return devices, nil
}

// attach returns the loop device that shows the file, making one if there is none.
func attach(file string) (string, error) {
	devices, err := findLoops(file)
	if err != nil {
		return "", err
	}
	if len(devices) > 0 {
		return devices[0], nil
	}
	for range attachTries {
		device, err := attachFree(file)
		if errors.Is(err, unix.EBUSY) {
			continue // another program took the device between the two requests
		}
		if err != nil {
			return "", fmt.Errorf("making a loop device for %s: %w", file, err)
		}
		return device, nil
	}
	return "", fmt.Errorf("making a loop device for %s: every free one was taken by others", file)
}

// attachFree asks the kernel for a free device and connects it to the file.
func attachFree(file string) (string, error) {
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = control.Close() }() // only opened for the request below
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return "", err
	}
	path := fmt.Sprintf("/dev/loop%d", number)
	// Where no udev makes devices, the kernel may know more of them than /dev has.
	mode := uint32(unix.S_IFBLK | 0o660)
	if err := unix.Mknod(path, mode, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return "", err
	}
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = device.Close() }() // the device stays connected
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = backing.Close() }() // the kernel holds its own reference
	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file)
	return path, unix.IoctlLoopConfigure(int(device.Fd()), &config)
}

// detach frees every loop device that shows the file. The kernel frees one that
// is still open when its last user closes it.
func detach(file string) error {
	devices, err := findLoops(file)
	if err != nil {
		return err
	}
	for _, path := range devices {
		if err := detachDevice(path); err != nil {
			return fmt.Errorf("freeing %s: %w", path, err)
		}
	}
	return nil
}

func detachDevice(path string) error {
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = device.Close() }() // only opened for the request below
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return err
	}
	return nil
}
