package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dress gives an entry its owner, attributes, mode and time, in this order: a new owner takes
// capabilities and set-user-ID away, and a mode may take away our right to set attributes.
func (t *tree) dress(root *os.Root, name string, h *tar.Header) error {
	if t.privileged {
		if err := root.Lchown(name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	// The parent is a directory of ours, and the name in it is not followed below.
	parent, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }()
	at := fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), path.Base(name))
	if err := t.setExtended(at, h); err != nil {
		return err
	}
	if kind(h) != tar.TypeSymlink {
		mode, err := t.mode(root, name, h)
		if err != nil {
			return err
		}
		if err := root.Chmod(name, mode); err != nil {
			return err
		}
	}
	changed := h.ModTime
	if changed.IsZero() {
		changed = time.Unix(0, 0)
	}
	stamp, err := unix.TimeToTimespec(changed)
	if err != nil {
		return fmt.Errorf("setting time of %s: %w", quote(name), err)
	}
	if err := unix.UtimesNanoAt(int(parent.Fd()), path.Base(name), []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("setting time of %s: %w", quote(name), err)
	}
	return nil
}

// mode is what an entry may keep of its mode.
func (t *tree) mode(root *os.Root, name string, h *tar.Header) (fs.FileMode, error) {
	const setUser, setGroup, sticky = 0o4000, 0o2000, 0o1000
	mode := fs.FileMode(h.Mode & 0o777)
	if h.Mode&sticky != 0 {
		mode |= fs.ModeSticky
	}
	if t.privileged && h.Mode&setUser != 0 {
		mode |= fs.ModeSetuid
	}
	if h.Mode&setGroup != 0 && (t.privileged || kind(h) == tar.TypeDir) {
		mode |= fs.ModeSetgid
	}
	if !t.privileged && kind(h) == tar.TypeDir {
		// A volume with a group of its own (fsGroup) hands it down by this bit.
		info, err := root.Lstat(name)
		if err != nil {
			return 0, err
		}
		mode |= info.Mode() & fs.ModeSetgid
	}
	return mode, nil
}

// setExtended keeps the extended attributes that the process and the volume allow.
func (t *tree) setExtended(at string, h *tar.Header) error {
	known, strange := extended(h)
	t.left.attributes += strange
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !t.privileged && !strings.HasPrefix(name, "user.") {
			t.left.attributes++
			continue
		}
		err := unix.Lsetxattr(at, name, []byte(known[name]), 0)
		switch {
		case err == nil:
		case refused(err):
			t.left.attributes++
		default:
			return fmt.Errorf("setting extended attribute %s: %w", quote(name), err)
		}
	}
	return nil
}

// refused tells that this attribute cannot be set here, while all else may be well. ENOSPC means
// first of all that the attributes of one file are too many.
func refused(err error) bool {
	return slices.ContainsFunc([]error{
		unix.EPERM, unix.EACCES, unix.ENOTSUP, unix.EINVAL, unix.ENOSPC, unix.E2BIG, unix.ERANGE,
	}, func(e error) bool { return errors.Is(err, e) })
}
