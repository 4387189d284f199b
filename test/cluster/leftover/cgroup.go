package leftover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroupDir is where control groups are mounted: version 2 in the folder
// itself, version 1 in one folder for each controller below it.
const cgroupDir = "/sys/fs/cgroup"

// Groups lists the folders of the control group, one for each hierarchy it exists in.
func Groups(name string) ([]string, error) {
	return groupsIn(cgroupDir, name)
}

// GroupParents lists the roots of the machine's control group hierarchies.
func GroupParents() ([]string, error) {
	return groupParents(cgroupDir)
}

// KillGroup kills every process in the control group and its children, waits
// for them to end, and removes the groups.
func KillGroup(ctx context.Context, name string) error {
	groups, err := Groups(name)
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		left := 0
		for _, group := range groups {
			killed, err := killIn(group)
			if err != nil {
				return err
			}
			left += killed
		}
		if left == 0 {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("killing control group %s: %d processes do not end: %w", name, left, ctx.Err())
		case <-tick.C:
		}
	}
	var failures []error
	for _, group := range groups {
		failures = append(failures, removeGroup(group))
	}
	return errors.Join(failures...)
}

func groupParents(cgroupDir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupDir, "cgroup.procs")); err == nil {
		return []string{cgroupDir}, nil
	}
	entries, err := os.ReadDir(cgroupDir)
	if err != nil {
		return nil, fmt.Errorf("listing control groups: %w", err)
	}
	var parents []string
	for _, entry := range entries {
		dir := filepath.Join(cgroupDir, entry.Name())
		// A link is a second name of a hierarchy, as cpuacct is of cpu,cpuacct.
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil && entry.Type()&fs.ModeSymlink == 0 {
			parents = append(parents, dir)
		}
	}
	return parents, nil
}

func groupsIn(cgroupDir, name string) ([]string, error) {
	parents, err := groupParents(cgroupDir)
	if err != nil {
		return nil, err
	}
	var groups []string
	for _, parent := range parents {
		group := filepath.Join(parent, name)
		if _, err := os.Stat(group); err == nil {
			groups = append(groups, group)
		}
	}
	return groups, nil
}

// killIn kills the processes of a group and its children and returns how many it found.
func killIn(group string) (int, error) {
	found := 0
	err := filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // ended meanwhile
		}
		if err != nil {
			return err
		}
		if entry.Name() != "cgroup.procs" {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // a group that went away holds no process
		}
		for _, field := range strings.Fields(string(content)) {
			pid, err := strconv.Atoi(field)
			if err != nil || pid <= 1 {
				continue
			}
			found++
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("killing process %d: %w", pid, err)
			}
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("killing the processes of %s: %w", group, err)
	}
	return found, nil
}

// removeGroup removes a group and its children, deepest first. The files in
// them belong to the kernel and go with their folder.
func removeGroup(group string) error {
	var dirs []string
	err := filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing %s: %w", group, err)
	}
	for _, dir := range slices.Backward(dirs) {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("removing control group %s: %w", dir, err)
		}
	}
	return nil
}
