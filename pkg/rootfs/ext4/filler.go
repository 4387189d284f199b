// Package ext4 fills an empty ext4 file system, as mke2fs makes it, in one pass and without
// mounting it. Content goes to disk as it comes, blocks are taken in ascending order and never
// given back; directories are written last. On-disk structures are those of the kernel's
// Documentation/filesystems/ext4.
package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// BlockSize is the only size of blocks that is understood, in bytes.
const BlockSize = 4096

// ErrFull tells that the file system has no room for an entry: neither blocks nor inodes are
// taken any more.
var ErrFull = errors.New("the file system is full")

// ErrEntry is behind each error about an entry that no ext4 file system can hold.
var ErrEntry = errors.New("ext4 cannot hold it")

// Storage is where the file system is.
type Storage interface {
	io.ReaderAt
	io.WriterAt
}

// Attributes are what all kinds of entries have.
type Attributes struct {
	// Mode is the permissions with set-user-ID (04000), set-group-ID (02000) and sticky (01000).
	Mode     uint16
	UID, GID uint32
	// Modified becomes all times of the inode, to the nanosecond; from 1901 to 2446.
	Modified time.Time
	// Extended attributes by their whole name, for example "user.note". Access control lists are
	// in the form that the kernel gives and takes.
	Extended map[string]string
}

// Kind of a special file: the type bits of its mode.
type Kind uint16

// The kinds of special files.
const (
	FIFO            Kind = 0x1000
	CharacterDevice Kind = 0x2000
	BlockDevice     Kind = 0x6000
)

// The types of the other inodes.
const (
	kindDirectory Kind = 0x4000
	kindRegular   Kind = 0x8000
	kindSymlink   Kind = 0xa000
)

const (
	rootInode      = 2
	lostFoundInode = 11
	lostFound      = "lost+found"
	// maxLinks is the most links of a file.
	maxLinks = 65000
	// maxName is the longest name of an entry in bytes.
	maxName = 255
	// maxTarget is the longest text of a symbolic link in bytes.
	maxTarget = BlockSize - 1
	// maxFile is the largest file in bytes: 2^32 blocks, less one.
	maxFile = (1<<32 - 1) * BlockSize
)

// Filler adds entries to a file system. It is not usable after an error other than ErrEntry.
type Filler struct {
	volume
	directories map[string]*directory
	order       []*directory
	buffer      []byte
	wide        bool
}

// Open reads the file system, which must be new: only the root and lost+found are in it.
func Open(storage Storage) (*Filler, error) {
	f := &Filler{volume: volume{storage: storage}, directories: map[string]*directory{}, buffer: make([]byte, 1<<20)}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("reading file system: %w", err)
	}
	root, err := f.existing(rootInode, rootInode)
	if err != nil {
		return nil, err
	}
	found, err := f.existing(lostFoundInode, rootInode)
	if err != nil {
		return nil, err
	}
	root.attributes.Mode, found.attributes.Mode = 0o755, 0o700
	root.add(lostFound, lostFoundInode, kindDirectory)
	f.remember(".", root)
	f.remember(lostFound, found)
	return f, nil
}

func (f *Filler) remember(name string, d *directory) {
	f.directories[name] = d
	f.order = append(f.order, d)
}

// Directory adds a directory, or gives an existing one other attributes. The name "." is the
// root. Missing parents are made for all entries, with mode 0755 and of root.
func (f *Filler) Directory(name string, a Attributes) error {
	if _, err := encodeExtended(a.Extended); err != nil {
		return err
	}
	if d, exists := f.directories[name]; exists {
		d.attributes = a
		return nil
	}
	parent, base, err := f.place(name)
	if err != nil {
		return err
	}
	number, err := f.takeInode(true)
	if err != nil {
		return err
	}
	parent.add(base, number, kindDirectory)
	parent.subdirectories++
	f.remember(name, &directory{number: number, parent: parent.number, attributes: a, entries: map[string]child{}})
	return nil
}

// File adds a regular file of size bytes. Blocks of zeros take no room. Too short a content is
// io.ErrUnexpectedEOF.
func (f *Filler) File(name string, a Attributes, size int64, content io.Reader) error {
	if size < 0 || size > maxFile {
		return fmt.Errorf("%w: a file of %d bytes", ErrEntry, size)
	}
	return f.inodeFor(name, kindRegular, a, func(i *inode) error {
		i.size = size
		extents, err := f.writeContent(content, size)
		if err != nil {
			return err
		}
		return f.mapBlocks(i, extents)
	})
}

// Symlink adds a symbolic link with the given text.
func (f *Filler) Symlink(name string, a Attributes, target string) error {
	if len(target) == 0 || len(target) > maxTarget || strings.Contains(target, "\x00") {
		return fmt.Errorf("%w: a symbolic link of %d bytes, or with a zero byte", ErrEntry, len(target))
	}
	a.Mode = 0o777
	return f.inodeFor(name, kindSymlink, a, func(i *inode) error {
		i.size = int64(len(target))
		// A short text is in the inode.
		if len(target) < len(i.block) {
			copy(i.block[:], target)
			return nil
		}
		extents, err := f.writeContent(strings.NewReader(target), i.size)
		if err != nil {
			return err
		}
		return f.mapBlocks(i, extents)
	})
}

// Special adds a device node or a FIFO.
func (f *Filler) Special(name string, a Attributes, kind Kind, major, minor uint32) error {
	if major > 0xfff || minor > 0xfffff {
		return fmt.Errorf("%w: device %d:%d", ErrEntry, major, minor)
	}
	return f.inodeFor(name, kind, a, func(i *inode) error {
		if kind != FIFO {
			i.setDevice(major, minor)
		}
		return nil
	})
}

// Link adds another name for target, which is an entry other than a directory.
func (f *Filler) Link(name, target string) error {
	d, known := f.directories[path.Dir(target)]
	if !known {
		return fmt.Errorf("%w: a hard link to %q, which does not exist", ErrEntry, target)
	}
	entry, known := d.entries[path.Base(target)]
	if !known || entry.kind == kindDirectory {
		return fmt.Errorf("%w: a hard link to %q, which is no file", ErrEntry, target)
	}
	parent, base, err := f.place(name)
	if err != nil {
		return err
	}
	if err := f.addLink(entry.number); err != nil {
		return err
	}
	parent.add(base, entry.number, entry.kind)
	return nil
}

// Close writes the directories and the tables. It does not close the storage.
func (f *Filler) Close() error {
	for _, d := range f.order {
		if err := f.writeDirectory(d); err != nil {
			return fmt.Errorf("writing directories: %w", err)
		}
	}
	if err := f.store(); err != nil {
		return fmt.Errorf("writing tables: %w", err)
	}
	return nil
}

// Wide tells whether a directory has more than one block. Such are searched entry by entry until
// e2fsck -D gives them an index.
func (f *Filler) Wide() bool { return f.wide }

// inodeFor gives an entry its inode, which build completes.
func (f *Filler) inodeFor(name string, kind Kind, a Attributes, build func(*inode) error) error {
	parent, base, err := f.place(name)
	if err != nil {
		return err
	}
	extended, err := encodeExtended(a.Extended)
	if err != nil {
		return err
	}
	number, err := f.takeInode(false)
	if err != nil {
		return err
	}
	i := newInode(number, kind, a)
	if err := build(i); err != nil {
		return err
	}
	if err := f.writeInode(i, extended); err != nil {
		return err
	}
	parent.add(base, number, kind)
	return nil
}

// place finds the directory that an entry belongs to.
func (f *Filler) place(name string) (parent *directory, base string, err error) {
	if !fs.ValidPath(strings.ToValidUTF8(name, "?")) || name == "." || strings.Contains(name, "\x00") {
		return nil, "", fmt.Errorf("%w: the name %q", ErrEntry, name)
	}
	dir, base := path.Dir(name), path.Base(name)
	if len(base) > maxName {
		return nil, "", fmt.Errorf("%w: a name of %d bytes", ErrEntry, len(base))
	}
	parent, known := f.directories[dir]
	if !known {
		if err := f.Directory(dir, Attributes{Mode: 0o755}); err != nil {
			return nil, "", err
		}
		parent = f.directories[dir]
	}
	if _, taken := parent.entries[base]; taken {
		return nil, "", fmt.Errorf("%w: a second entry %q", ErrEntry, name)
	}
	return parent, base, nil
}
