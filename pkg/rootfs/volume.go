package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/format/refusal"
)

const (
	// partial is where all is written before it gets to its place.
	partial = ".gild-partial"
	aside   = partial + "/tree"
	// moving lists what comes to the top of the volume. It exists from before the first move to
	// after the last one.
	moving    = partial + "/moving"
	lostFound = "lost+found"
)

// volume is a mounted file system for one tree.
type volume struct{ root *os.Root }

func openVolume(dir string) (*volume, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening volume: %w", err)
	}
	return &volume{root: root}, nil
}

// prepare takes away what an earlier run left, and refuses other files.
func (v *volume) prepare() error {
	if err := v.clear(); err != nil {
		return fmt.Errorf("removing what an earlier run left: %w", err)
	}
	return v.refuseForeign()
}

func (v *volume) refuseForeign() error {
	names, err := list(v.root, ".")
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != lostFound && name != partial {
			return refusal.New(refusal.TargetError, fmt.Sprintf("writing files: the volume is not empty, it has for example %s: give an empty volume", quote(name)))
		}
	}
	return nil
}

// clear takes away all that a run wrote.
func (v *volume) clear() error {
	text, err := v.root.ReadFile(moving)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// A list that was cut does not end as it must: nothing was moved yet.
	if whole, ended := strings.CutSuffix(string(text), "\x00\x00"); ended {
		for name := range strings.SplitSeq(whole, "\x00") {
			if name == "" || name == lostFound || !isTop(name) {
				continue
			}
			if err := remove(v.root, name); err != nil {
				return err
			}
		}
	}
	return remove(v.root, partial)
}

// newTree makes the place aside.
func (v *volume) newTree() (*tree, error) {
	for _, name := range []string{partial, aside} {
		if err := v.root.Mkdir(name, 0o700); err != nil {
			return nil, err
		}
	}
	root, err := v.root.OpenRoot(aside)
	if err != nil {
		return nil, err
	}
	return &tree{
		root: root, privileged: os.Geteuid() == 0, directories: map[string]*directory{".": {}}, omitted: map[string]bool{}, buffer: make([]byte, 1<<20),
	}, nil
}

// place moves all from aside to the top of the volume.
func (v *volume) place() error {
	if err := v.sync(); err != nil {
		return err
	}
	if err := v.refuseForeign(); err != nil {
		return err
	}
	names, err := list(v.root, aside)
	if err != nil {
		return err
	}
	if err := v.root.WriteFile(moving, []byte(strings.Join(names, "\x00")+"\x00\x00"), 0o600); err != nil {
		return err
	}
	if err := v.sync(); err != nil {
		return err
	}
	for _, name := range names {
		if err := v.root.Rename(aside+"/"+name, name); err != nil {
			return err
		}
	}
	return nil
}

// done makes all durable and forgets that it was moved.
func (v *volume) done() error {
	if err := v.sync(); err != nil {
		return err
	}
	if err := remove(v.root, partial); err != nil {
		return err
	}
	return v.sync()
}

// sync writes all that the file system has in memory.
func (v *volume) sync() error {
	dir, err := v.root.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("syncing volume: %w", err)
	}
	return nil
}

// isTop tells whether a name is at the top of a tree.
func isTop(name string) bool { return name != "." && name != ".." && !strings.Contains(name, "/") }

// list returns the names in a directory, in order.
func list(root *os.Root, name string) ([]string, error) {
	dir, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, dir.Close())
}

// remove takes a tree away, also one whose directories cannot be written.
func remove(root *os.Root, name string) error {
	if err := open(root, name); err != nil {
		return err
	}
	return root.RemoveAll(name)
}

// open lets us into all directories of a tree.
func open(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !info.IsDir() {
		return err
	}
	if info.Mode().Perm()&0o700 != 0o700 {
		if err := root.Chmod(name, 0o700); err != nil {
			return err
		}
	}
	names, err := list(root, name)
	if err != nil {
		return err
	}
	for _, child := range names {
		if err := open(root, name+"/"+child); err != nil {
			return err
		}
	}
	return nil
}
