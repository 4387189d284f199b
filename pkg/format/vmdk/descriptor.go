package vmdk

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// maxDescriptor is the most that qemu reads of a descriptor, in bytes.
const maxDescriptor = 1 << 20

// descriptor is what matters of the text in sector 1.
type descriptor struct {
	extents             int
	createType, parents []string
}

// checkDescriptor refuses a descriptor that names anything but the file it is in: CVE-2022-47951
// was one that named the host's files. The text has at most size sectors and ends at a NUL, which
// is where qemu stops reading it too.
func checkDescriptor(head []byte, size uint64) error {
	text := head[sector:]
	end := bytes.IndexByte(text, 0)
	switch {
	case end < 0 && uint64(len(text)) < size*sector:
		return truncated("it ends within its descriptor, or that is longer than the %d bytes that are looked at", len(text))
	case end < 0 || uint64(end) > size*sector:
		return corrupt("its descriptor does not end where its header says")
	}
	text = text[:end]
	if bytes.Contains(bytes.ToLower(text), []byte("parentfilenamehint")) {
		return unsafeImage("it names a parent")
	}
	var d descriptor
	for line := range strings.SplitSeq(string(text), "\n") {
		if err := d.read(strings.TrimSpace(line)); err != nil {
			return err
		}
	}
	return d.check()
}

func (d *descriptor) read(line string) error {
	if strings.HasPrefix(line, "#") {
		return nil
	}
	if words := strings.Fields(line); len(words) > 1 {
		switch strings.ToUpper(words[0]) {
		case "RW", "RDONLY", "NOACCESS":
			d.extents++
			return checkExtent(line)
		}
	}
	key, value, _ := strings.Cut(line, "=")
	value = strings.Trim(strings.TrimSpace(value), `"`)
	switch strings.ToLower(strings.TrimSpace(key)) {
	case "createtype":
		d.createType = append(d.createType, value)
	case "parentcid":
		d.parents = append(d.parents, value)
	}
	return nil
}

func (d *descriptor) check() error {
	switch {
	case len(d.createType) != 1 || len(d.parents) != 1:
		return corrupt("its descriptor says createType %d times and parentCID %d times: each must be there once", len(d.createType), len(d.parents))
	case !strings.EqualFold(d.parents[0], "ffffffff"):
		return unsafeImage("it has a parent")
	case d.createType[0] != "monolithicSparse" && d.createType[0] != "streamOptimized":
		return unsafeImage("its type is " + strconv.Quote(d.createType[0]))
	case d.extents != 1:
		return unsafeImage("its descriptor has " + strconv.Itoa(d.extents) + " extents instead of one")
	}
	return nil
}

// checkExtent takes `RW 1234 SPARSE "name.vmdk"` and nothing that could be another file. The name
// is often that of the image when it was made: it need not be today's name, and is never opened.
func checkExtent(line string) error {
	front, quoted, _ := strings.Cut(line, `"`)
	name, rest, closed := strings.Cut(quoted, `"`)
	words := strings.Fields(front)
	if len(words) != 3 || !closed || rest != "" {
		return unsafeImage("its extent " + strconv.Quote(line) + " is not a plain one")
	}
	access, kind := strings.ToUpper(words[0]), strings.ToUpper(words[2])
	sectors, err := strconv.ParseInt(words[1], 10, 64)
	switch {
	case access == "NOACCESS" || kind != "SPARSE":
		return unsafeImage("its extent " + strconv.Quote(line) + " is not a sparse one that can be read")
	case err != nil || sectors <= 0:
		return corrupt("its extent has %q sectors", words[1])
	case !plainName(name):
		return unsafeImage("its extent has the name " + strconv.Quote(name))
	}
	return nil
}

// plainName tells the name of a file from a path, a URL and what qemu takes for options.
func plainName(name string) bool {
	isOdd := func(r rune) bool { return r < ' ' || strings.ContainsRune(`/\:`, r) }
	return name != "" && len(name) < 256 && name != "." && name != ".." && strings.IndexFunc(name, isOdd) < 0
}

func unsafeImage(what string) error {
	return refusal.New(refusal.UnsafeImage, "the vmdk image may need other files, which are never opened: "+what+": convert it to one file with qemu-img convert")
}
