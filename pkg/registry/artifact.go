package registry

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// diskNames are the ends of the names and media types that disk images are pushed with.
func diskNames() []string {
	return []string{"qcow2", "img", "raw", "iso", "vmdk", "vhd", "vhdx", "vdi"}
}

// Disk is the layer of an artifact that is a disk image as it is: the only one with a media type
// or a title of a disk image, or else the only layer there is.
func (i *Image) Disk() (Layer, error) {
	layers := i.Layers()
	disks := slices.DeleteFunc(slices.Clone(layers), func(l Layer) bool { return !l.isDisk() })
	if len(disks) == 0 {
		disks = layers
	}
	switch len(disks) {
	case 0:
		return Layer{}, refusal.New(refusal.NoDisk, i.name+" is an artifact without a layer: push the disk image as its layer")
	case 1:
		return disks[0], nil
	}
	return Layer{}, refusal.New(refusal.SeveralDisks, fmt.Sprintf("%s is an artifact of %d layers, and it is not clear which is the disk (%s, %s): push one disk image", i.name, len(layers), disks[0], disks[1]))
}

// isDisk tells a disk image by the end of its title, before an ending that only tells how it is
// compressed, or by a word of its media type.
func (l Layer) isDisk() bool {
	title := strings.ToLower(l.Title)
	for _, compression := range []string{".gz", ".xz", ".zst", ".bz2"} {
		title = strings.TrimSuffix(title, compression)
	}
	if slices.Contains(diskNames(), strings.TrimPrefix(path.Ext(title), ".")) {
		return true
	}
	words := strings.FieldsFunc(strings.ToLower(l.MediaType), func(r rune) bool { return strings.ContainsRune("/.+-;= ", r) })
	return slices.ContainsFunc(words, func(word string) bool { return word == "disk" || slices.Contains(diskNames(), word) })
}

// String is the layer for people.
func (l Layer) String() string {
	if l.Title != "" {
		return fmt.Sprintf("%q", l.Title)
	}
	return fmt.Sprintf("%s, %s", l.Digest, l.MediaType)
}
