package layer

import (
	"archive/tar"
	"fmt"
	"strings"
)

// attribute is what the PAX records of extended attributes begin with.
const attribute = "SCHILY.xattr."

// header is what of an entry belongs to the image, under a name of its own. How the tar stored it is left out.
func header(h *tar.Header, name string) *tar.Header {
	out := &tar.Header{
		Typeflag: kind(h.Typeflag), Name: name, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid, Uname: h.Uname, Gname: h.Gname,
		ModTime: h.ModTime, Devmajor: h.Devmajor, Devminor: h.Devminor,
	}
	switch out.Typeflag {
	case tar.TypeReg:
		out.Size = h.Size
	case tar.TypeSymlink:
		out.Linkname = h.Linkname
	}
	for key, value := range h.PAXRecords {
		if strings.HasPrefix(key, attribute) {
			if out.PAXRecords == nil {
				out.PAXRecords = map[string]string{}
			}
			out.PAXRecords[key] = value
		}
	}
	return out
}

// kind is the type of an entry, however its content is stored.
func kind(flag byte) byte {
	switch flag {
	case tar.TypeCont, tar.TypeGNUSparse:
		return tar.TypeReg
	}
	return flag
}

// kindName is the type of an entry for people.
func kindName(kind byte) string {
	switch kind {
	case tar.TypeReg:
		return "a regular file"
	case tar.TypeDir:
		return "a directory"
	case tar.TypeSymlink:
		return "a symbolic link"
	case tar.TypeLink:
		return "a hard link"
	case tar.TypeChar, tar.TypeBlock:
		return "a device"
	case tar.TypeFifo:
		return "a fifo"
	}
	return fmt.Sprintf("of the unknown type %q", kind)
}
