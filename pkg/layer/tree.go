package layer

import (
	"archive/tar"
	"iter"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// tree is what is visible when layers lie on each other, the lowest first (OCI image-spec,
// layer.md; what it leaves open is as in overlayfs, where each layer is a tree of its own: a
// directory hides a link of that name in the layers below).
type tree struct {
	root *node
	// used is about how much memory it takes, in bytes.
	used int
	// blind trees do not follow hard links: they stand for themselves.
	blind bool
}

// node is a name in the tree: a directory when it has children, which may be none.
type node struct {
	parent   *node
	name     string
	children map[string]*node
	// layer set the name last.
	layer int
	// about is what a directory's entry said. It is nil when there was none.
	about *tar.Header
	// file is what the name of no directory stands for.
	file *file
}

// file is content with one name or several: everything but a directory.
type file struct {
	layer, entry int
	kind         byte
	size         int64
	// first is the name that comes with the content, the others are links to it.
	first *node
	shown bool
}

// About what a name and a directory take, in bytes, without the name itself; see TestTreeMemory.
const (
	nodeCost      = 180
	directoryCost = 220
	headerCost    = 250
)

func newTree() *tree { return &tree{root: &node{name: ".", children: map[string]*node{}, layer: -1}} }

// apply puts an entry of a layer into the tree. Layers come from the lowest to the highest, the
// entries of each in their order.
func (t *tree) apply(layer int, e *entry) error {
	if e.hides != nil {
		t.hide(layer, e.hides)
		return nil
	}
	dir, base := path.Split(e.name)
	parent, err := t.directory(layer, strings.TrimSuffix(dir, "/"), e.name)
	if err != nil {
		return err
	}
	if e.Typeflag == tar.TypeDir {
		return t.describe(layer, parent, base, e)
	}
	if base == "" {
		return corrupt("the root of the image is no directory: build the image again")
	}
	f := &file{layer: layer, entry: e.number, kind: kind(e.Typeflag), size: e.Size}
	if e.Typeflag == tar.TypeLink && !t.blind {
		if f, err = t.target(e); err != nil {
			return err
		}
	}
	n, err := t.add(layer, parent, base)
	if err != nil {
		return err
	}
	n.children, n.about, n.file = nil, nil, f
	if f.first == nil {
		f.first = n
	}
	return nil
}

// describe makes or keeps a directory.
func (t *tree) describe(layer int, parent *node, base string, e *entry) error {
	n := t.root
	if base != "" {
		if n = parent.children[base]; n == nil || n.file != nil {
			var err error
			if n, err = t.make(layer, parent, base); err != nil {
				return err
			}
		}
	}
	n.layer, n.about = layer, header(e.Header, "")
	return t.take(headerCost + recordsCost(n.about))
}

func recordsCost(h *tar.Header) int {
	cost := len(h.Uname) + len(h.Gname)
	for key, value := range h.PAXRecords {
		cost += 100 + len(key) + len(value)
	}
	return cost
}

// directory finds or makes a directory. what is the entry that needs it.
func (t *tree) directory(layer int, name, what string) (*node, error) {
	n := t.root
	if name == "" {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		child := n.children[part]
		if child == nil || child.file != nil {
			if child != nil && child.layer == layer {
				return nil, unsafe("the entry %q is below %q, which is no directory: build the image without such entries", what, child.path())
			}
			var err error
			if child, err = t.make(layer, n, part); err != nil {
				return nil, err
			}
		}
		n = child
	}
	return n, nil
}

// make puts an empty directory where no directory is.
func (t *tree) make(layer int, parent *node, base string) (*node, error) {
	n, err := t.add(layer, parent, base)
	if err != nil {
		return nil, err
	}
	n.children = map[string]*node{}
	return n, t.take(directoryCost)
}

// add puts a new name in place of whatever had it.
func (t *tree) add(layer int, parent *node, base string) (*node, error) {
	n := &node{parent: parent, name: strings.Clone(base), layer: layer}
	parent.children[n.name] = n
	return n, t.take(nodeCost + len(base))
}

// take counts memory. What is hidden again is not given back: its layers are hostile or few.
func (t *tree) take(cost int) error {
	if t.used += cost; t.used > maxTree {
		return tooMuch("the names in the image need more than %d MiB of memory: build it without what is not needed", maxTree>>20)
	}
	return nil
}

// target is what a hard link leads to.
func (t *tree) target(e *entry) (*file, error) {
	name, err := cleanName(e.Linkname)
	if err != nil {
		return nil, err
	}
	n := t.find(name)
	if n == nil || n.file == nil {
		return nil, corrupt("the hard link %q leads to %q, which is no file before it: build the image again", e.name, name)
	}
	return n.file, nil
}

// find returns what has the path, or nil. It follows no links.
func (t *tree) find(name string) *node {
	n := t.root
	if name == "" {
		return n
	}
	for part := range strings.SplitSeq(name, "/") {
		if n = n.children[part]; n == nil {
			return nil
		}
	}
	return n
}

// hide takes out what a whiteout names, as far as it is of the layers below.
func (t *tree) hide(layer int, h *hidden) {
	dir := t.find(h.dir)
	if dir == nil {
		return
	}
	if n := dir.children[h.name]; n != nil && !h.all {
		n.prune(layer)
	}
	if h.all {
		for _, n := range dir.children {
			n.prune(layer)
		}
	}
}

// prune takes out the parts of a subtree that are of lower layers.
func (n *node) prune(layer int) {
	for _, child := range n.children {
		child.prune(layer)
	}
	if n.layer == layer {
		return
	}
	if len(n.children) > 0 {
		n.layer, n.about = layer, nil
		return
	}
	delete(n.parent.children, n.name)
}

// path of the node, relative to the root.
func (n *node) path() string {
	if n.parent == nil || n.parent.parent == nil {
		return n.name
	}
	return n.parent.path() + "/" + n.name
}

func sortedNames(dir *node) []string { return slices.Sorted(maps.Keys(dir.children)) }

// quoted is a node for people.
func quoted(n *node) string { return strconv.Quote(n.path()) }

// walk yields all names, those of a directory in their order and after the directory.
func (t *tree) walk() iter.Seq[*node] {
	return func(yield func(*node) bool) { t.root.walk(yield) }
}

func (n *node) walk(yield func(*node) bool) bool {
	// The root has an entry in most images. In others there is nothing to say about it.
	if (n.parent != nil || n.about != nil) && !yield(n) {
		return false
	}
	for _, name := range sortedNames(n) {
		if !n.children[name].walk(yield) {
			return false
		}
	}
	return true
}

func (n *node) directoryHeader() *tar.Header {
	if n.about != nil {
		h := *n.about
		h.Name = n.path()
		return &h
	}
	return &tar.Header{Typeflag: tar.TypeDir, Name: n.path(), Mode: 0o755}
}
