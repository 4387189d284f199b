// Package rootfs writes the tree of a container image as an ext4 file system, or as plain files.
package rootfs

import (
	"archive/tar"
	"cmp"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// noScratchSpace is the reason when the scratch file cannot grow.
const noScratchSpace = "NoScratchSpace"

// Entry is one thing of a tree. Parents come before what is in them, and files before their hard
// links. Two entries never have the same name.
type Entry struct {
	// Header of the entry. Its PAX records hold the extended attributes. The name "." is the root.
	Header *tar.Header
	// Content of a regular file; nil for all else. It has Header.Size bytes.
	Content io.Reader
}

// Options are those of both forms.
type Options struct {
	// Notice is told what was left out, in one sentence. May be nil.
	Notice func(string)
}

func (o Options) notice(text string) {
	if o.Notice != nil && text != "" {
		o.Notice(text)
	}
}

// cleanName returns the name of an entry below the root: "." or "a/b". Leading slashes mean the
// root of the image. A name that climbs is refused.
func cleanName(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", refusal.New(refusal.UnsafeImage, fmt.Sprintf("reading layers: the entry %s leaves the root: ask who made the image", quote(name)))
		}
	}
	if strings.Contains(name, "\x00") {
		return "", refusal.New(refusal.CorruptImage, fmt.Sprintf("reading layers: the entry %s has a zero byte in its name", quote(name)))
	}
	return cmp.Or(path.Clean("/" + name)[1:], "."), nil
}

// quote makes a name of a stranger fit for a message.
func quote(name string) string {
	const most = 200
	if len(name) > most {
		name = name[:most] + "…"
	}
	return fmt.Sprintf("%q", name)
}

// kind is what an entry is, whatever the dialect of its archive.
func kind(h *tar.Header) byte {
	switch h.Typeflag {
	case 0, tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return tar.TypeReg
	}
	return h.Typeflag
}

// extended returns the extended attributes of an entry, and how many of its attributes Linux does
// not know: archives made on other systems have such.
func extended(h *tar.Header) (known map[string]string, strange int) {
	for record, value := range h.PAXRecords {
		name, found := strings.CutPrefix(record, "SCHILY.xattr.")
		if !found {
			continue
		}
		space, rest, _ := strings.Cut(name, ".")
		switch space {
		case "user", "trusted", "security":
			found = rest != ""
		case "system":
			found = rest == "posix_acl_access" || rest == "posix_acl_default"
		default:
			found = false
		}
		if !found {
			strange++
			continue
		}
		if known == nil {
			known = map[string]string{}
		}
		known[name] = value
	}
	return known, strange
}

// plural writes a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
