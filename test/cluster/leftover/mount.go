// Package leftover finds and removes what a stopped cluster leaves in the
// kernel: mounts, loop devices and control groups. Everything is found by the
// cluster's own folder or group, so nothing of anybody else is touched.
package leftover

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const mountTable = "/proc/self/mountinfo"

// Mounts lists the mount points below folder, oldest first.
func Mounts(folder string) ([]string, error) {
	table, err := os.ReadFile(mountTable)
	if err != nil {
		return nil, fmt.Errorf("reading the mounts: %w", err)
	}
	return mountsBelow(string(table), folder), nil
}

// Unmount unmounts everything below folder, newest first. A mount that is in
// use is detached: its last user takes it away.
func Unmount(folder string) error {
	mounts, err := Mounts(folder)
	if err != nil {
		return err
	}
	var failures []error
	for _, point := range slices.Backward(mounts) {
		err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			err = unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("unmounting %s: %w", point, err))
		}
	}
	return errors.Join(failures...)
}

// mountsBelow reads a table in the format of proc_pid_mountinfo(5): the fifth
// field is the mount point.
func mountsBelow(table, folder string) []string {
	const pointField = 4
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var points []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) <= pointField {
			continue
		}
		if point := unescape.Replace(fields[pointField]); below(point, folder) {
			points = append(points, point)
		}
	}
	return points
}

func below(path, folder string) bool {
	return strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}
