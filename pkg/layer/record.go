package layer

import (
	"archive/tar"
	"path"
	"slices"
	"strings"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// diskDir is the directory of the disk (KubeVirt, "containerDisk").
const diskDir = "disk"

// record is what one layer says about the disk: entries in and above its directory, and whiteouts.
type record struct{ entries []*entry }

// add keeps an entry if it has to do with the disk.
func (r *record) add(e *entry) error {
	switch {
	case e.hides == nil && e.name != diskDir && !strings.HasPrefix(e.name, diskDir+"/"):
		return nil
	case e.hides != nil && !e.hides.concernsDisk():
		return nil
	case len(r.entries) == maxRecord:
		return tooMuch("it has more than %d entries below %s/: build the image with the disk alone", maxRecord, diskDir)
	}
	if e.hides == nil && e.Typeflag != tar.TypeDir && r.has(e.name) {
		return corrupt("the entry %q comes twice: build the image again", e.name)
	}
	kept := &entry{Header: &tar.Header{Typeflag: kind(e.Typeflag), Size: e.Size}, name: e.name, hides: e.hides, number: e.number}
	r.entries = append(r.entries, kept)
	return nil
}

func (r *record) has(name string) bool {
	return slices.ContainsFunc(r.entries, func(e *entry) bool { return e.hides == nil && e.name == name })
}

func (h *hidden) concernsDisk() bool {
	if h.dir == "" {
		return h.all || h.name == diskDir
	}
	return h.dir == diskDir || strings.HasPrefix(h.dir, diskDir+"/")
}

// covers tells that nothing of the layers below can be visible.
func (r *record) covers() bool {
	return slices.ContainsFunc(r.entries, func(e *entry) bool {
		if e.hides != nil {
			return e.hides.all && (e.hides.dir == "" || e.hides.dir == diskDir) || path.Join(e.hides.dir, e.hides.name) == diskDir
		}
		return e.name == diskDir && e.Typeflag != tar.TypeDir
	})
}

// isDisk tells an entry that may be the disk.
func (e *entry) isDisk() bool {
	return e.hides == nil && kind(e.Typeflag) == tar.TypeReg && strings.HasPrefix(e.name, diskDir+"/")
}

// found is the disk that some layers show.
type found struct {
	name          string
	size          int64
	layer, number int
}

// show lays records on each other, the lowest first, and returns the disk that is then visible.
// Layers that were not read are nil.
func show(records []*record) (found, error) {
	t := newTree()
	t.blind = true
	for layer, r := range records {
		if r == nil {
			continue
		}
		for _, e := range r.entries {
			if err := t.apply(layer, e); err != nil {
				return found{}, err
			}
		}
	}
	top := t.root.children[diskDir]
	switch {
	case top == nil || top.file != nil && top.file.kind == tar.TypeReg || top.file == nil && len(top.children) == 0:
		return found{}, refusal.New(refusal.NoDisk, "the image has no file below disk/: put the disk there, or import the image as a root file system")
	case top.file != nil:
		return found{}, unsafe("disk in the image is %s: it must be a directory with the disk in it", kindName(top.file.kind))
	}
	return only(top)
}

// only returns the one file in a directory.
func only(dir *node) (found, error) {
	var files []*node
	for _, name := range sortedNames(dir) {
		n := dir.children[name]
		switch {
		case n.file == nil:
			return found{}, refusal.New(refusal.UnexpectedContent, quoted(n)+" in the image is a directory: put nothing below disk/ but the disk")
		case n.file.kind != tar.TypeReg:
			return found{}, unsafe("%s in the image is %s: it must be a regular file", quoted(n), kindName(n.file.kind))
		}
		files = append(files, n)
	}
	if len(files) > 1 {
		return found{}, refusal.New(refusal.SeveralDisks, "the image has "+quoted(files[0])+" and "+quoted(files[1])+" below disk/: leave one of them")
	}
	f := files[0].file
	return found{name: files[0].path(), size: f.size, layer: f.layer, number: f.entry}, nil
}
