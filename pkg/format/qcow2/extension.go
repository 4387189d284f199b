package qcow2

import (
	"encoding/binary"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Header extensions that change where data comes from.
const (
	extensionEnd      = 0
	extensionDataFile = 0x44415441
	extensionCrypto   = 0x0537be77
)

// checkExtensions reads the extensions of the header. read fills p from an offset within the
// first cluster, which they never leave.
func (h *Header) checkExtensions(read func(p []byte, off int64) error) error {
	for off := h.length; off+8 <= h.cluster(); {
		var ext [8]byte
		if err := read(ext[:], off); err != nil {
			return err
		}
		kind, length := binary.BigEndian.Uint32(ext[:]), int64(binary.BigEndian.Uint32(ext[4:]))
		off += 8
		switch {
		case kind == extensionEnd:
			return nil
		case kind == extensionDataFile:
			return refusal.New(refusal.UnsafeImage, "the qcow2 image names another file for its data, which is never opened: flatten it with qemu-img convert")
		case kind == extensionCrypto:
			return refusal.New(refusal.UnsafeImage, "the qcow2 image is encrypted: decrypt it with qemu-img convert")
		case length > h.cluster()-off:
			return corrupt("an extension of its header has %d bytes", length)
		}
		off += (length + 7) &^ 7
	}
	return nil
}
