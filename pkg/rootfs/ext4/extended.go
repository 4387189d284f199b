package ext4

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	attributeMagic  = 0xea020000
	attributeHeader = 32
	attributeEntry  = 16
)

// attribute is an extended attribute in the form that it has on disk.
type attribute struct {
	index byte
	name  string
	value []byte
}

func (a attribute) entrySize() int { return (attributeEntry + len(a.name) + 3) &^ 3 }

func (a attribute) valueSize() int { return (len(a.value) + 3) &^ 3 }

func (a attribute) size() int { return a.entrySize() + a.valueSize() }

// prefix is the beginning of a name, which is stored as a number.
type prefix struct {
	text  string
	index byte
}

func prefixes() []prefix {
	return []prefix{{"system.posix_acl_access", 2}, {"system.posix_acl_default", 3}, {"user.", 1}, {"trusted.", 4}, {"security.", 6}}
}

// encodeExtended sorts attributes as the kernel searches them, and refuses those that have no
// room in an inode and one block.
func encodeExtended(extended map[string]string) ([]attribute, error) {
	var list []attribute
	for _, name := range slices.Sorted(maps.Keys(extended)) {
		a, err := encodeAttribute(name, extended[name])
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b attribute) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	room := BlockSize - attributeHeader - 4
	for _, a := range putInline(make([]byte, inodeSize-extrasAt), list) {
		room -= a.size()
	}
	if room < 0 {
		return nil, fmt.Errorf("%w: more than 4 KiB of extended attributes", ErrEntry)
	}
	return list, nil
}

func encodeAttribute(name, value string) (attribute, error) {
	for _, p := range prefixes() {
		rest, found := strings.CutPrefix(name, p.text)
		if !found || (rest == "") == strings.HasSuffix(p.text, ".") || len(rest) > maxName {
			continue
		}
		a := attribute{index: p.index, name: rest, value: []byte(value)}
		if strings.HasPrefix(p.text, "system.") {
			var valid bool
			if a.value, valid = accessList(a.value); !valid {
				return attribute{}, fmt.Errorf("%w: an invalid access control list", ErrEntry)
			}
		}
		return a, nil
	}
	return attribute{}, fmt.Errorf("%w: the extended attribute %q", ErrEntry, name)
}

// accessList turns an access control list from the form of the system calls (version 2) into
// that of the disk (version 1), which leaves out the ids that say nothing.
func accessList(value []byte) ([]byte, bool) {
	const entry = 8
	if len(value) < 4 || le.Uint32(value) != 2 || (len(value)-4)%entry != 0 {
		return nil, false
	}
	out := le32(1)
	for value = value[4:]; len(value) > 0; value = value[entry:] {
		switch tag := le.Uint16(value); tag {
		case 0x01, 0x04, 0x10, 0x20:
			out = append(out, value[:4]...)
		case 0x02, 0x08:
			out = append(out, value[:entry]...)
		default:
			return nil, false
		}
	}
	return out, true
}

// putInline stores those attributes that have room behind an inode and returns the others.
func putInline(raw []byte, list []attribute) []attribute {
	room := len(raw) - 4 - 4
	var inline, rest []attribute
	for _, a := range list {
		if a.size() > room {
			rest = append(rest, a)
			continue
		}
		room -= a.size()
		inline = append(inline, a)
	}
	if len(inline) > 0 {
		le.PutUint32(raw, attributeMagic)
		putAttributes(raw[4:], 0, inline, false)
	}
	return rest
}

// putAttributes stores entries from a place on and their values from the end of raw; their
// offsets count from the start of raw.
func putAttributes(raw []byte, at int, list []attribute, hashed bool) (hash uint32) {
	end := len(raw)
	for _, a := range list {
		end -= a.valueSize()
		entry := raw[at:]
		entry[0], entry[1] = byte(len(a.name)), a.index //nolint:gosec // maxName
		if len(a.value) > 0 {
			le.PutUint16(entry[2:], uint16(end)) //nolint:gosec // below 4096
		}
		le.PutUint32(entry[8:], uint32(len(a.value))) //nolint:gosec // below 4096
		copy(entry[attributeEntry:], a.name)
		copy(raw[end:], a.value)
		if hashed {
			h := a.hash()
			le.PutUint32(entry[12:], h)
			hash = hash<<16 ^ hash>>16 ^ h
		}
		at += a.entrySize()
	}
	return hash
}

// hash is that of the name and of the value's padded words.
func (a attribute) hash() (hash uint32) {
	for _, c := range []byte(a.name) {
		hash = hash<<5 ^ hash>>27 ^ uint32(c)
	}
	padded := append(bytes.Clone(a.value), make([]byte, a.valueSize()-len(a.value))...)
	for ; len(padded) > 0; padded = padded[4:] {
		hash = hash<<16 ^ hash>>16 ^ le.Uint32(padded)
	}
	return hash
}

// writeAttributes stores attributes in a block of their own.
func (f *Filler) writeAttributes(list []attribute) (uint64, error) {
	block, _, err := f.takeBlocks(1)
	if err != nil {
		return 0, err
	}
	raw := make([]byte, BlockSize)
	le.PutUint32(raw[0:], attributeMagic)
	le.PutUint32(raw[4:], 1)
	le.PutUint32(raw[8:], 1)
	le.PutUint32(raw[12:], putAttributes(raw, attributeHeader, list, true))
	le.PutUint32(raw[16:], checksum(f.seed, le64(block), raw))
	return block, f.writeBlock(block, raw)
}
