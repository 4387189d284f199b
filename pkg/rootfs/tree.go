package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// maxTarget is the longest text of a symbolic link in bytes.
const maxTarget = 4095

// tree is written below root, a directory of its own: no name finds anything else there.
type tree struct {
	root *os.Root
	// privileged: owners and all extended attributes can be kept.
	privileged bool
	// directories by name; order has each after its parent.
	directories map[string]*directory
	order       []*directory
	// omitted are the names that were left out: hard links to them are too.
	omitted map[string]bool
	left    left
	buffer  []byte
}

// directory gets its attributes when all is in it.
type directory struct {
	name   string
	header *tar.Header
}

func (t *tree) close() { _ = t.root.Close() }

// add writes one entry. Errors of the volume have their reason; those of the content are as the
// reader gave them.
func (t *tree) add(ctx context.Context, entry Entry) error {
	h := entry.Header
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	switch top, _, below := strings.Cut(name, "/"); {
	case name == "." && kind(h) == tar.TypeDir:
		return nil
	case top == partial:
		return refusal.New(refusal.UnsafeImage, "this name is reserved for what is not finished: build the image without it")
	case top == lostFound:
		if below || kind(h) != tar.TypeDir {
			t.left.found++
		}
		t.omitted[name] = true
		return nil
	case kind(h) == tar.TypeDir:
		return onVolume(t.addDirectory(name, h))
	}
	if err := t.addParent(name); err != nil {
		return onVolume(err)
	}
	switch kind(h) {
	case tar.TypeReg:
		return t.addFile(ctx, name, entry)
	case tar.TypeSymlink:
		return onVolume(t.addSymlink(name, h))
	case tar.TypeLink:
		return onVolume(t.addLink(name, h))
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		t.left.special++
		t.omitted[name] = true
		return nil
	}
	return refusal.New(refusal.ConversionFailed, fmt.Sprintf("files cannot be of type %q", h.Typeflag))
}

// addDirectory makes a directory. An existing one gets the attributes of the header.
func (t *tree) addDirectory(name string, h *tar.Header) error {
	if d, exists := t.directories[name]; exists {
		d.header = h
		return nil
	}
	if err := t.addParent(name); err != nil {
		return err
	}
	if err := t.root.Mkdir(name, 0o700); err != nil {
		return taken(err)
	}
	d := &directory{name: name, header: h}
	t.directories[name] = d
	t.order = append(t.order, d)
	return nil
}

// addParent makes sure that the parent is a directory of ours, and not a link to one.
func (t *tree) addParent(name string) error {
	parent := path.Dir(name)
	if _, exists := t.directories[parent]; exists {
		return nil
	}
	return t.addDirectory(parent, &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755})
}

func (t *tree) addSymlink(name string, h *tar.Header) error {
	if h.Linkname == "" || len(h.Linkname) > maxTarget || strings.Contains(h.Linkname, "\x00") {
		return refusal.New(refusal.ConversionFailed, fmt.Sprintf("writing files: a symbolic link cannot lead to %s", quote(h.Linkname)))
	}
	if err := t.root.Symlink(h.Linkname, name); err != nil {
		return taken(err)
	}
	return t.dress(t.root, name, h)
}

func (t *tree) addLink(name string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	if t.omitted[target] {
		t.left.special++
		t.omitted[name] = true
		return nil
	}
	missing := refusal.New(refusal.CorruptImage, fmt.Sprintf("reading layers: a hard link to %s, which is no file before it: build the image again", quote(h.Linkname)))
	if _, known := t.directories[path.Dir(target)]; !known {
		return missing
	}
	if _, known := t.directories[target]; known {
		return missing
	}
	err = t.root.Link(target, name)
	if errors.Is(err, fs.ErrNotExist) {
		return missing
	}
	return taken(err)
}

// addFile writes a regular file.
func (t *tree) addFile(ctx context.Context, name string, entry Entry) error {
	f, err := t.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return onVolume(taken(err))
	}
	err = t.fillFile(ctx, f, entry)
	if failed := f.Close(); err == nil {
		err = onVolume(failed)
	}
	if err != nil {
		return err
	}
	return onVolume(t.dress(t.root, name, entry.Header))
}

// settle gives directories their attributes, the deepest first. root is where they are now.
func (t *tree) settle(root *os.Root, which func(name string) bool) error {
	for i := len(t.order) - 1; i >= 0; i-- {
		if d := t.order[i]; which(d.name) {
			if err := t.dress(root, d.name, d.header); err != nil {
				return err
			}
		}
	}
	return nil
}

// taken tells of two entries with one name.
func taken(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return refusal.By(refusal.CorruptImage, "reading layers: two entries have one name: build the image again", err)
	}
	return err
}
