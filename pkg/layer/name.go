package layer

import (
	"path"
	"slices"
	"strings"
)

const (
	// hidePrefix makes NAME of .wh.NAME disappear from the layers below (OCI image-spec, layer.md, "Whiteouts").
	hidePrefix = ".wh."
	// hideAll does so with everything in its directory.
	hideAll = ".wh..wh..opq"
	// notes of the file system AUFS begin with it. They belong to no image.
	notePrefix = ".wh..wh."
)

// cleanName makes the path in a tar relative to the root of the image: x of ./x and /x, and "." of
// the root itself. A path with ".." is refused, wherever it leads.
func cleanName(name string) (string, error) {
	switch {
	case len(name) > maxName:
		return "", corrupt("the name %.80q… has %d bytes, at most %d are possible", name, len(name), maxName)
	case slices.Contains(strings.Split(name, "/"), ".."):
		return "", unsafe("the name %q leads out of its directory: build the image without such entries", name)
	case strings.ContainsRune(name, 0):
		return "", corrupt("the name %q has a zero byte in it", name)
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

// hidden is what a whiteout is about.
type hidden struct {
	// dir holds the name that disappears, or everything in it does when all is set.
	dir, name string
	all       bool
}

// whiteout tells whether a cleaned path is no entry of the image: a whiteout, or a note that means
// nothing. h is nil for a note.
func whiteout(name string) (h *hidden, is bool, err error) {
	dir, base := path.Split(name)
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, notePrefix) {
			return nil, true, nil
		}
		if strings.HasPrefix(part, hidePrefix) {
			return nil, true, corrupt("the entry %q is below a whiteout, which is no directory: build the image again", name)
		}
	}
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case base == hideAll:
		return &hidden{dir: dir, all: true}, true, nil
	case strings.HasPrefix(base, notePrefix):
		return nil, true, nil
	case !strings.HasPrefix(base, hidePrefix):
		return nil, false, nil
	}
	base = strings.TrimPrefix(base, hidePrefix)
	if base == "" || base == "." || base == ".." {
		return nil, true, corrupt("the whiteout %q has no name: build the image again", name)
	}
	return &hidden{dir: dir, name: base}, true, nil
}
