//go:build corpus

package corpus

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gild-project/gild/test/reports"
)

const (
	// inside is set when this program runs in name spaces of its own.
	inside = "GILD_CORPUS_INSIDE"
	// home is where the corpus is mounted there. So near the root, "../../../../etc" in an image
	// leads to /etc.
	home = "/mnt"
	// parallelRows is how many importers run at once.
	parallelRows = "2"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(inside) != "" {
		os.Exit(within(m))
	}
	code, err := outside()
	if err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// outside makes what the tests need and runs this program again in name spaces of its own.
func outside() (int, error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("the tests need root for loop devices and name spaces")
	}
	dir, err := reports.Folder("corpus")
	if err != nil {
		return 1, err
	}
	for _, args := range [][]string{
		{"generate/make.sh", dir},
		{"go", "build", "-C", "../..", "-o", filepath.Join(dir, "importer"), "./cmd/importer"},
	} {
		command := exec.Command(args[0], args[1:]...)
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		if err := command.Run(); err != nil {
			return 1, fmt.Errorf("running %s: %w", args[0], err)
		}
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), inside+"="+dir)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	err = again.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func within(m *testing.M) int {
	err := isolate(os.Getenv(inside))
	if err == nil {
		err = flag.Set("test.parallel", parallelRows)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "corpus: isolating the tests:", err)
		return 1
	}
	return m.Run()
}
