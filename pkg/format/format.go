// Package format recognises virtual disk formats and turns an image into one flat disk.
package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Format is the name of a disk image format, or of what is mistaken for one.
type Format string

// The supported formats.
const (
	Raw   Format = "raw"
	ISO   Format = "iso"
	Qcow2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VHD   Format = "vhd"
	VHDX  Format = "vhdx"
	VDI   Format = "vdi"
)

// The supported compressions: what comes out of them is detected once more.
const (
	Gzip  Format = "gz"
	XZ    Format = "xz"
	Zstd  Format = "zst"
	Bzip2 Format = "bz2"
)

// HeadSize is how much of the start of an image Detect wants to see: the mark of an ISO is at
// 32 KiB. TailSize is how much of the end: the mark of a fixed VHD is there alone.
const (
	HeadSize = 64 << 10
	TailSize = 512
)

// Sample is what is known of an image before it is read as a whole.
type Sample struct {
	// Head is the first HeadSize bytes, or the whole image if it is shorter.
	Head []byte
	// Tail is the last TailSize bytes, nil while they are not known.
	Tail []byte
	// ContentType is the media type that the server claims, without parameters.
	ContentType string
}

// magic is one way to recognise a format.
type magic struct {
	format Format
	// disk tells an image format from a compressed file or an archive.
	disk  bool
	match func(s Sample) bool
}

func at(offset int, mark string) func(Sample) bool {
	return func(s Sample) bool {
		return len(s.Head) >= offset+len(mark) && string(s.Head[offset:offset+len(mark)]) == mark
	}
}

func endsWith(fromEnd int, mark string) func(Sample) bool {
	return func(s Sample) bool {
		start := len(s.Tail) - fromEnd
		return start >= 0 && strings.HasPrefix(string(s.Tail[start:]), mark)
	}
}

// magics lists all that is recognised but raw and iso. Nothing here is ever read as raw: a
// format that is not known for what it is would become a broken disk.
func magics() []magic {
	return []magic{
		{"qcow2", true, func(s Sample) bool { return at(0, "QFI\xfb")(s) && !at(4, "\x00\x00\x00\x01")(s) }},
		{"qcow", true, at(0, "QFI\xfb\x00\x00\x00\x01")},
		{"qed", true, at(0, "QED\x00")},
		{"vmdk", true, at(0, "KDMV")},
		{"vmdk", true, at(0, "COWD")},
		{"vmdk", true, isVMDKDescriptor},
		{"vhd", true, at(0, "conectix")},
		{"vhd", true, endsWith(512, "conectix")},
		// Old Virtual PC wrote footers of 511 bytes.
		{"vhd", true, endsWith(511, "conectix")},
		{"vhdx", true, at(0, "vhdxfile")},
		{"vdi", true, at(64, "\x7f\x10\xda\xbe")},
		{"vdi", true, at(64, "\xbe\xda\x10\x7f")},
		{"luks", true, at(0, "LUKS\xba\xbe")},
		{"parallels", true, at(0, "WithoutFreeSpace")},
		{"parallels", true, at(0, "WithouFreSpacExt")},
		{"dmg", true, endsWith(512, "koly")},
		{"gz", false, at(0, "\x1f\x8b")},
		{"xz", false, at(0, "\xfd7zXZ\x00")},
		{"zst", false, isZstd},
		{"bz2", false, func(s Sample) bool { return at(0, "BZh")(s) && (at(4, "1AY&SY")(s) || at(4, "\x17rE8P\x90")(s)) }},
		{"lz4", false, at(0, "\x04\x22\x4d\x18")},
		{"zip", false, at(0, "PK\x03\x04")},
		{"7z", false, at(0, "7z\xbc\xaf\x27\x1c")},
		{"tar", false, at(257, "ustar")},
	}
}

// isZstd also knows the skippable frames that some tools put first.
func isZstd(s Sample) bool {
	if len(s.Head) < 4 {
		return false
	}
	n := binary.LittleEndian.Uint32(s.Head)
	return n == 0xfd2fb528 || n&^0xf == 0x184d2a50
}

// isVMDKDescriptor finds the text form of a VMDK as qemu does: comments and empty lines, then
// a version.
func isVMDKDescriptor(s Sample) bool {
	if at(0, "# Disk DescriptorFile")(s) {
		return true
	}
	for line := range strings.Lines(string(s.Head[:min(len(s.Head), 2048)])) {
		line = strings.Trim(line, " \t\r\n\x00")
		if line == "" || line[0] == '#' {
			continue
		}
		return strings.HasPrefix(line, "version=")
	}
	return false
}

// flatMarks are those of disks that are read as they are. Real ISOs carry several of them.
func flatMarks(s Sample) (iso, bootable bool) {
	iso = at(32769, "CD001")(s)
	bootable = at(510, "\x55\xaa")(s) || at(512, "EFI PART")(s) || at(4096, "EFI PART")(s)
	return iso, bootable
}

// Detect names the format of an image. An image that is two formats at once is refused: which
// one it is would depend on the reader. want is empty, or the format the image must have. What
// is inside a compression is detected by a second call.
func Detect(s Sample, want Format) (Format, error) {
	found, disk, err := detectContainer(s)
	if err != nil {
		return "", err
	}
	iso, bootable := flatMarks(s)
	switch {
	case found == "" && !iso && !bootable && isPage(s):
		return "", refusal.New(refusal.UnexpectedContent, fmt.Sprintf("the source sends a web page or an error message, not a disk (content type %q): check the URL and the credentials", s.ContentType))
	case found == "" && iso:
		found = ISO
	case found == "":
		found = Raw
	case disk && (iso || bootable && !isFixedVHD(s)):
		return "", refusal.New(refusal.AmbiguousFormat, fmt.Sprintf("the image has the marks of %s and of a raw disk at once: it is refused because readers would disagree", found))
	}
	if want != "" && want != found && (want != Raw || found != ISO) {
		return "", refusal.New(refusal.FormatMismatch, fmt.Sprintf("the image is %s and must be %s", found, want))
	}
	if err := refuseVMDKInParts(s, found); err != nil {
		return "", err
	}
	if advice := unsupported(found); advice != "" {
		return "", refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("the image is %s, which is not supported: %s", found, advice))
	}
	return found, nil
}

// refuseVMDKInParts refuses the kinds that keep their data in other files, or may.
func refuseVMDKInParts(s Sample, found Format) error {
	switch {
	case found != VMDK || at(0, "KDMV")(s):
		return nil
	case at(0, "COWD")(s):
		return refusal.New(refusal.UnsupportedFormat, "the image is a vmdk of VMware ESX (COWD), which is not supported: export it as an OVA or convert it to streamOptimized with qemu-img convert")
	}
	return refusal.New(refusal.UnsafeImage, "the image is a vmdk descriptor, a text that names other files, which are never opened: convert it to streamOptimized with qemu-img convert -O vmdk -o subformat=streamOptimized")
}

// unsupported says what to do about a format that is recognised only to be refused, else "".
func unsupported(f Format) string {
	switch f {
	case "qcow", "qed", "parallels", "dmg":
		return "convert it to qcow2 or raw with qemu-img convert"
	case "luks":
		return "decrypt it with qemu-img convert"
	case "lz4":
		return "decompress it, or compress it with zstd"
	case "zip", "7z", "tar":
		return "unpack it and give the URL of the disk image inside"
	}
	return ""
}

func detectContainer(s Sample) (found Format, disk bool, err error) {
	for _, m := range magics() {
		if !m.match(s) || m.format == found {
			continue
		}
		switch {
		case found == "":
			found, disk = m.format, m.disk
		case disk && m.disk:
			return "", false, refusal.New(refusal.AmbiguousFormat, fmt.Sprintf("the image has the marks of %s and of %s at once: it is refused because readers would disagree", found, m.format))
		}
	}
	return found, disk, nil
}

// isFixedVHD tells a raw disk with a footer, whose own marks are no contradiction.
func isFixedVHD(s Sample) bool {
	return !at(0, "conectix")(s) && (endsWith(512, "conectix")(s) || endsWith(511, "conectix")(s))
}

// isPage tells a web page, or an answer of an API, from a disk.
func isPage(s Sample) bool {
	switch s.ContentType {
	case "text/html", "application/xhtml+xml", "application/json", "application/problem+json":
		return true
	}
	text := bytes.ToLower(bytes.TrimLeft(bytes.TrimPrefix(s.Head[:min(len(s.Head), 1024)], []byte("\xef\xbb\xbf")), " \t\r\n"))
	for _, start := range []string{"<!doctype", "<html", "<head", "<body", "<?xml", "<!--", "<script", "<error", "<title"} {
		if bytes.HasPrefix(text, []byte(start)) {
			return true
		}
	}
	return isJSON(text)
}

// isJSON looks at the first characters only: the rest may be cut.
func isJSON(text []byte) bool {
	if len(text) < 2 || text[0] != '{' && text[0] != '[' {
		return false
	}
	next := bytes.TrimLeft(text[1:], " \t\r\n")
	return len(next) > 0 && bytes.IndexByte([]byte(`"{[]}`), next[0]) >= 0
}
