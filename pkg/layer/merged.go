package layer

import (
	"archive/tar"
	"context"
	"io"
	"iter"
	"math"
)

// Entry is a name that is visible in the merged tree.
type Entry struct {
	// Header has the clean path as its name ("." is the root), and of PAX records the extended
	// attributes. A hard link has nothing but its name and that of its file, which came before.
	Header *tar.Header
	// Content of a regular file, else nil. It can be read until the next entry.
	Content io.Reader
}

// Merged returns all that is visible when layers, the lowest first, lie on each other: directories
// first, each after its parent, then files of all kinds, then hard links. Directories without an
// entry of their own are root's, with mode 0755. Whiteouts never come.
//
// Each layer is read once for its names, and again if some of its content is visible. The end
// without an error means that all of them have the size and digest of the manifest. An
// error is the last that comes.
func Merged(ctx context.Context, layers []Layer, o Options) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		t, err := union(ctx, layers, o)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		p := t.plan()
		for n := range t.walk() {
			if n.file == nil && !yield(Entry{Header: n.directoryHeader()}, nil) {
				return
			}
		}
		for i, l := range layers {
			if p.wanted[i] && !p.contents(ctx, i, l, o, yield) {
				return
			}
		}
		for n := range t.walk() {
			if n.file != nil && n.file.first != n {
				link := &tar.Header{Typeflag: tar.TypeLink, Name: n.path(), Linkname: n.file.first.path()}
				if !yield(Entry{Header: link}, nil) {
					return
				}
			}
		}
	}
}

// union reads all layers for their names.
func union(ctx context.Context, layers []Layer, o Options) (*tree, error) {
	t := newTree()
	for i, l := range layers {
		if err := t.lay(ctx, i, l, o); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// lay puts a layer on those before.
func (t *tree) lay(ctx context.Context, layer int, l Layer, o Options) error {
	p, err := begin(ctx, l, o)
	if err != nil {
		return err
	}
	defer p.close()
	for {
		e, err := p.next(ctx)
		if err == io.EOF { //nolint:errorlint // next returns it bare
			return nil
		}
		if err != nil {
			return err
		}
		if err := checkHeader(e); err != nil {
			return p.explain(err)
		}
		if err := t.apply(layer, e); err != nil {
			return p.explain(err)
		}
	}
}

// checkHeader refuses what no file system can store.
func checkHeader(e *entry) error {
	if e.hides != nil {
		return nil
	}
	switch kind(e.Typeflag) {
	case tar.TypeReg, tar.TypeDir, tar.TypeLink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	case tar.TypeSymlink:
		if e.Linkname == "" || len(e.Linkname) >= maxName {
			return corrupt("the symbolic link %q leads to a path of %d bytes: build the image again", e.name, len(e.Linkname))
		}
	default:
		return tooMuch("the entry %q is %s: build the image without it", e.name, kindName(e.Typeflag))
	}
	if e.Uid < 0 || e.Gid < 0 || e.Uid > math.MaxUint32 || e.Gid > math.MaxUint32 {
		return corrupt("the entry %q belongs to user %d and group %d: build the image again", e.name, e.Uid, e.Gid)
	}
	return nil
}

// plan says in which layers the content of the tree is.
type plan struct {
	tree *tree
	// wanted layers have some of it.
	wanted map[int]bool
	// moved are files of which the name they came with is hidden, but not that of a hard link.
	moved map[place]*file
}

type place struct{ layer, entry int }

// plan chooses the name of each file that comes with its content.
func (t *tree) plan() *plan {
	p := &plan{tree: t, wanted: map[int]bool{}, moved: map[place]*file{}}
	for n := range t.walk() {
		if n.file != nil && n.file.first == n {
			n.file.shown = true
			p.wanted[n.file.layer] = true
		}
	}
	for n := range t.walk() {
		if n.file != nil && !n.file.shown {
			n.file.first, n.file.shown = n, true
			p.wanted[n.file.layer] = true
			p.moved[place{n.file.layer, n.file.entry}] = n.file
		}
	}
	return p
}

// name is the path under which an entry of a layer comes, empty when it is hidden.
func (p *plan) name(layer int, e *entry) string {
	if e.hides != nil {
		return ""
	}
	if f := p.moved[place{layer, e.number}]; f != nil {
		return f.first.path()
	}
	n := p.tree.find(e.name)
	if n == nil || n.file == nil || n.file.first != n || n.file.layer != layer || n.file.entry != e.number {
		return ""
	}
	return e.name
}

// contents yields the files of one layer, and false when that is the end.
func (p *plan) contents(ctx context.Context, layer int, l Layer, o Options, yield func(Entry, error) bool) bool {
	in, err := begin(ctx, l, o)
	if err != nil {
		yield(Entry{}, err)
		return false
	}
	defer in.close()
	for {
		e, err := in.next(ctx)
		if err == io.EOF { //nolint:errorlint // next returns it bare
			return true
		}
		if err != nil {
			yield(Entry{}, err)
			return false
		}
		name := p.name(layer, e)
		if name == "" {
			continue
		}
		out := Entry{Header: header(e.Header, name)}
		if out.Header.Typeflag == tar.TypeReg {
			out.Content = reader(func(b []byte) (int, error) { return in.read(ctx, b) })
		}
		if !yield(out, nil) {
			return false
		}
	}
}

// reader is the content of a file.
type reader func(p []byte) (int, error)

// Read implements io.Reader.
func (r reader) Read(p []byte) (int, error) { return r(p) }
