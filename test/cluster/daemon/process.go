package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	procDir = "/proc"
	// While a process changes its program, the kernel shows no environment. That
	// takes microseconds on an idle machine.
	changeLimit = 300 * time.Millisecond
	changePoll  = time.Millisecond
)

// owns says whether the process lives and carries the mark of this folder. A
// process id that was given to another program in the meantime does not.
func (f Folder) owns(pid int) bool {
	mark := []byte(markName + "=" + f.Path)
	for _, variable := range bytes.Split(environment(pid), []byte{0}) {
		if bytes.Equal(variable, mark) {
			return true
		}
	}
	return false
}

// environment returns the variables of a living process, each followed by a zero
// byte; nothing for one that has ended.
func environment(pid int) []byte {
	dir := filepath.Join(procDir, strconv.Itoa(pid))
	var before []byte
	for until := time.Now().Add(changeLimit); ; time.Sleep(changePoll) {
		// A program that shows arguments has shown its environment before; one may have taken the place of another in between, so
		// only the second look at the same one counts.
		arguments, argumentsErr := os.ReadFile(filepath.Join(dir, "cmdline"))
		content, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || argumentsErr != nil || len(content) > 0 || len(arguments) > 0 && bytes.Equal(arguments, before) {
			return content
		}
		before = arguments
		// Kernel threads, and processes that only wait to be reaped, have no program.
		if _, err := os.Readlink(filepath.Join(dir, "exe")); err != nil || time.Now().After(until) {
			return nil
		}
	}
}

// Running lists the living processes that carry the mark, but not this one.
func (f Folder) Running() ([]int, error) {
	entries, err := os.ReadDir(procDir)
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if f.owns(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
