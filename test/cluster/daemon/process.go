package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const procDir = "/proc"

// owns says whether the process lives and carries the mark of this folder. A
// process id that was given to another program in the meantime does not.
func (f Folder) owns(pid int) bool {
	dir := filepath.Join(procDir, strconv.Itoa(pid))
	environment, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return false
	}
	mark := []byte(markName + "=" + f.Path)
	for _, variable := range bytes.Split(environment, []byte{0}) {
		if bytes.Equal(variable, mark) {
			return !zombie(dir)
		}
	}
	return false
}

// zombie says whether the process has ended and only waits to be reaped.
func zombie(dir string) bool {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return true
	}
	// The state follows the program's name, which is in parentheses and may hold any character.
	end := bytes.LastIndexByte(stat, ')')
	return end >= 0 && end+2 < len(stat) && stat[end+2] == 'Z'
}

// marked lists the living processes that carry the mark, but not this one.
func (f Folder) marked() ([]int, error) {
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
