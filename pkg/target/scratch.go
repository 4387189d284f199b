package target

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// scratch is a file without a name: whatever is killed, nothing is left of it.
type scratch struct {
	dir  string
	free int64
}

// OpenScratch looks at a directory for a nameless file and changes nothing.
func OpenScratch(dir string) (*Target, error) {
	free, err := freeBytes(dir)
	if err != nil {
		return nil, err
	}
	return at(dir, &scratch{dir: dir, free: free}), nil
}

func (s *scratch) open(flags int) (*os.File, error) {
	f, err := os.OpenFile(s.dir, os.O_RDWR|unix.O_TMPFILE|flags, 0o600)
	if !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EISDIR) {
		return f, err
	}
	// Some file systems cannot make a nameless file: take the name away at once.
	name := filepath.Join(s.dir, ".gild-"+rand.Text())
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (s *scratch) reopen(int) (*os.File, error) {
	return nil, fail(TargetError, "a scratch file is never left behind")
}

func (s *scratch) mark(*os.File) error { return nil }

func (s *scratch) unmark(*os.File) error { return nil }

func (s *scratch) capacity() int64 { return s.free }

func (s *scratch) needs(size int64) int64 { return claimSize(size) }

func (s *scratch) full(int64) string { return "a larger one is needed" }

func (s *scratch) finish(*os.File, int64) error { return nil }

func (s *scratch) remove(*os.File) error { return nil }

func (s *scratch) block() bool { return false }

func (s *scratch) String() string { return "scratch file in " + s.dir }
