package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	mountTable = "/proc/self/mountinfo"
	// FIFREEZE and FITHAW of linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
	freezeRequest = 0xC0045877
	thawRequest   = 0xC0045878
)

// whileStill calls cut while the image is a consistent one. A file system that is
// mounted is frozen for that time: whoever writes waits. A block device can only be
// told to write what it has: the cut has all that was synced before, as after a
// crash, if nobody writes meanwhile.
func whileStill(image string, cut func() error) (err error) {
	devices, err := findLoops(image)
	if err != nil {
		return err
	}
	for _, device := range devices {
		if err := syncDevice(device); err != nil {
			return err
		}
		point, err := mountOf(device)
		if err != nil {
			return err
		}
		if point == "" {
			continue
		}
		if err := onMount(point, freezeRequest); err != nil {
			return fmt.Errorf("freezing %s: %w", point, err)
		}
		defer func() { err = errors.Join(err, onMount(point, thawRequest)) }()
	}
	return cut()
}

// thaw frees the image's file system if the driver was killed while it was frozen.
func thaw(image string) error {
	devices, err := findLoops(image)
	if err != nil {
		return err
	}
	for _, device := range devices {
		point, err := mountOf(device)
		if err != nil {
			return err
		}
		if point == "" {
			continue
		}
		if err := onMount(point, thawRequest); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it is not frozen
			return fmt.Errorf("thawing %s: %w", point, err)
		}
	}
	return nil
}

// onMount asks the file system that is mounted at point for something.
func onMount(point string, request uint) error {
	folder, err := os.Open(point)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // only opened for the request below
	return unix.IoctlSetInt(int(folder.Fd()), request, 0)
}

func syncDevice(path string) error {
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening %s to sync it: %w", path, err)
	}
	return errors.Join(device.Sync(), device.Close())
}

// mountOf returns a place where the device's file system is mounted, or nothing.
func mountOf(device string) (string, error) {
	var facts unix.Stat_t
	if err := unix.Stat(device, &facts); err != nil {
		return "", fmt.Errorf("looking at %s: %w", device, err)
	}
	table, err := os.ReadFile(mountTable)
	if err != nil {
		return "", fmt.Errorf("reading the mounts: %w", err)
	}
	return mountIn(string(table), unix.Major(facts.Rdev), unix.Minor(facts.Rdev)), nil
}

// mountIn reads a table in the format of proc_pid_mountinfo(5): the third field is
// the device, the fifth the mount point.
func mountIn(table string, major, minor uint32) string {
	const deviceField, pointField = 2, 4
	wanted := fmt.Sprintf("%d:%d", major, minor)
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > pointField && fields[deviceField] == wanted {
			return unescape.Replace(fields[pointField])
		}
	}
	return ""
}
