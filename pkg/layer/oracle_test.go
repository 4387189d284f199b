package layer_test

import (
	"archive/tar"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// inode is what a name stands for. Two names of one file have the same.
type inode struct {
	kind    byte
	mode    int64
	link    string
	content string
}

// stratum is one layer as overlayfs has it: a tree of its own and what it hides of those below.
type stratum struct {
	names map[string]*inode
	// implied directories are there because something is in them.
	implied map[string]bool
	// gone paths are hidden with all below them, of emptied ones only what is below.
	gone, emptied map[string]bool
}

// ancestors of a path, itself not counted, the root not either.
func ancestors(name string) []string {
	var all []string
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		all = append(all, dir)
	}
	return all
}

// over lays s on what is visible below it.
func (s *stratum) over(below map[string]*inode) map[string]*inode {
	merged := map[string]*inode{}
	for name, node := range below {
		up := ancestors(name)
		hidden := s.gone[name] || s.emptied["."]
		for _, dir := range up {
			hidden = hidden || s.gone[dir] || s.emptied[dir]
		}
		// A directory that replaces something else hides it, and there was nothing below.
		if own := s.names[name]; own != nil && (own.kind != tar.TypeDir || node.kind != tar.TypeDir || !s.implied[name]) {
			hidden = true
		}
		for _, dir := range up {
			if own := s.names[dir]; own != nil && own.kind != tar.TypeDir {
				hidden = true
			}
		}
		if !hidden {
			merged[name] = node
		}
	}
	for name, node := range s.names {
		if merged[name] == nil {
			merged[name] = node
		}
	}
	return merged
}

// put takes one entry of a layer. below is what the layers under it show.
func (s *stratum) put(i item, below map[string]*inode) error {
	name := path.Clean(i.h.Name)
	dir, base := path.Dir(name), path.Base(name)
	if base == ".wh..wh..opq" {
		s.emptied[dir] = true
		return nil
	}
	if hidden, is := strings.CutPrefix(base, ".wh."); is {
		s.gone[path.Join(dir, hidden)] = true
		return nil
	}
	for _, up := range slices.Backward(ancestors(name)) {
		if own := s.names[up]; own != nil && own.kind != tar.TypeDir {
			return fmt.Errorf("%s is below a file", name)
		} else if own == nil {
			s.names[up], s.implied[up] = &inode{kind: tar.TypeDir, mode: 0o755}, true
		}
	}
	node := &inode{kind: i.h.Typeflag, mode: i.h.Mode, link: i.h.Linkname, content: string(i.data)}
	if i.h.Typeflag == tar.TypeLink {
		if node = s.over(below)[path.Clean(i.h.Linkname)]; node == nil || node.kind == tar.TypeDir {
			return fmt.Errorf("%s leads nowhere", name)
		}
	}
	if node.kind != tar.TypeDir {
		// As if taken out first, also when a directory comes here later in this layer.
		s.gone[name] = true
		maps.DeleteFunc(s.names, func(other string, _ *inode) bool { return strings.HasPrefix(other, name+"/") })
	}
	s.names[name] = node
	delete(s.implied, name)
	return nil
}

// naive merges layers path by path.
func naive(layers [][]item) (map[string]*inode, error) {
	merged := map[string]*inode{}
	for _, items := range layers {
		s := &stratum{names: map[string]*inode{}, implied: map[string]bool{}, gone: map[string]bool{}, emptied: map[string]bool{}}
		for _, i := range items {
			if err := s.put(i, merged); err != nil {
				return nil, err
			}
		}
		merged = s.over(merged)
	}
	return merged, nil
}

// layersFrom makes small layers of arbitrary bytes.
func layersFrom(data []byte, names []string) [][]item {
	layers := [][]item{nil}
	pick := func(b byte) string { return names[int(b)%len(names)] }
	for n := 0; n+2 < len(data) && n < 3*60; n += 3 {
		name, last := pick(data[n+1]), &layers[len(layers)-1]
		switch data[n] % 12 {
		case 0, 1, 2:
			*last = append(*last, file(name, fmt.Appendf(nil, "content %d", n)))
		case 3, 4:
			d := dir(name)
			d.h.Mode = int64(n)
			*last = append(*last, d)
		case 5:
			*last = append(*last, special(tar.TypeSymlink, name, pick(data[n+2])))
		case 6:
			*last = append(*last, special(tar.TypeLink, name, pick(data[n+2])))
		case 7:
			*last = append(*last, special(tar.TypeFifo, name, ""))
		case 8, 9:
			*last = append(*last, file(path.Dir(name)+"/.wh."+path.Base(name), nil))
		case 10:
			*last = append(*last, file(path.Dir(name)+"/.wh..wh..opq", nil))
		case 11:
			if len(layers) < 5 {
				layers = append(layers, nil)
			}
		}
	}
	return layers
}

// possible leaves out the entries that cannot be, so that more layers are good ones.
func possible(layers [][]item) [][]item {
	out := make([][]item, 0, len(layers))
	for _, items := range layers {
		out = append(out, nil)
		for _, i := range items {
			last := &out[len(out)-1]
			*last = append(*last, i)
			if _, err := naive(out); err != nil {
				*last = (*last)[:len(*last)-1]
			}
		}
	}
	return out
}
