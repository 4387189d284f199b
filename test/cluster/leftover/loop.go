package leftover

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	blockDir  = "/sys/block"
	deviceDir = "/dev"
)

// Loops lists the names of the loop devices that show a file below folder, and
// of those that show such a loop device again: the kubelet puts a loop device
// of its own over every raw block volume.
func Loops(folder string) ([]string, error) {
	return loopsBelow(blockDir, folder)
}

// DetachLoops frees the loop devices that Loops lists. A device that is in use
// is freed by its last user.
func DetachLoops(folder string) error {
	names, err := Loops(folder)
	if err != nil {
		return err
	}
	var failures []error
	for _, name := range names {
		failures = append(failures, detach(name))
	}
	return errors.Join(failures...)
}

func loopsBelow(blockDir, folder string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(blockDir, "loop*", "loop", "backing_file"))
	if err != nil {
		return nil, fmt.Errorf("listing loop devices: %w", err)
	}
	backing := map[string]string{} // name to file; only the kernel knows the order they were made in
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // freed since the listing
		}
		name := filepath.Base(filepath.Dir(filepath.Dir(file)))
		backing[name] = strings.TrimSpace(string(content))
	}
	var base, stacked []string
	for name, file := range backing {
		under, isLoop := backing[filepath.Base(file)]
		switch {
		case below(file, folder):
			base = append(base, name)
		case isLoop && below(under, folder):
			stacked = append(stacked, name)
		}
	}
	return append(stacked, base...), nil
}

func detach(name string) error {
	device, err := os.Open(filepath.Join(deviceDir, name))
	if err != nil {
		return fmt.Errorf("opening %s to free it: %w", name, err)
	}
	defer func() { _ = device.Close() }() // only opened for the request below
	err = unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0)
	if err != nil && !errors.Is(err, unix.ENXIO) { // ENXIO: free already
		return fmt.Errorf("freeing %s: %w", name, err)
	}
	return nil
}
