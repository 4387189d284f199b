package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/rootfs/ext4"
)

// MinSize is the smallest file system that Ext4 makes, in bytes.
const MinSize = 16 << 20

// Ext4 writes the entries to file as an ext4 file system of exactly size bytes. Size 0 means the
// smallest sensible one: the content, and a fifth of it or 64 MiB more, whatever is larger. The
// file is emptied first; it stays sparse. It returns how many bytes of the file system are used.
//
// The file system can be written when it is mounted: it has a journal and free inodes for its
// size, one for each 16 KiB. Everything that the entries say is kept but for extended attributes
// that Linux does not know; these are counted and told. All times of a file are that of its last
// change. No rights are needed, but mke2fs and e2fsck, and without a size also resize2fs and
// tune2fs.
//
// A size that is too small is refused with TooLarge. The entries are then read to their end, to
// tell which size is enough.
func Ext4(ctx context.Context, entries iter.Seq2[Entry, error], file *os.File, size int64, o Options) (usedBytes int64, err error) {
	if size < 0 || size > 0 && size < MinSize {
		return 0, refusal.New(refusal.TooLarge, fmt.Sprintf("making file system: %d bytes are too few: ask for at least %d MiB", size, MinSize>>20))
	}
	t := tools{file: file}
	room := size
	if size == 0 {
		room = roomy
	}
	if err := empty(file, room); err != nil {
		return 0, err
	}
	if err := t.format(ctx, room, size > 0); err != nil {
		return 0, err
	}
	w := writer{fit: true}
	if w.to, err = ext4.Open(file); err != nil {
		return 0, refusal.By(refusal.InternalError, "making file system", err)
	}
	if err := w.write(ctx, entries); err != nil {
		return 0, err
	}
	if !w.fit {
		return 0, refusal.New(refusal.TooLarge, fmt.Sprintf("making file system: the root file system has %d MiB in %s and does not fit into %d MiB: ask for at least %d MiB",
			w.bytes>>20, plural(int(w.inodes), "file"), room>>20, sensible(w.bytes, w.inodes)>>20))
	}
	if err := w.to.Close(); err != nil {
		return 0, onScratch(err)
	}
	if w.strange > 0 {
		o.notice(fmt.Sprintf("left out %s that Linux does not know", plural(w.strange, "extended attribute")))
	}
	if err := t.check(ctx); err != nil {
		return 0, err
	}
	if size == 0 {
		if err := t.shrink(ctx, sensible(w.bytes, w.inodes)); err != nil {
			return 0, err
		}
	}
	if w.to.Wide() {
		if err := t.index(ctx); err != nil {
			return 0, err
		}
	}
	return ext4.Used(file)
}

// sensible is the size of a file system, in bytes, that has room for content and then some.
func sensible(content, inodes int64) int64 {
	const (
		mib = 1 << 20
		// A group of blocks has that many inodes; half as many again as are needed stay free.
		group, perGroup = 128 * mib, 128 * mib / bytesPerInode
	)
	size := content + max(content/5, 64*mib)
	if inodes*3/2 > (size/group+1)*perGroup {
		size = (inodes*3/2/perGroup + 1) * group
	}
	return (size + mib - 1) / mib * mib
}

// empty makes the file read as zeros.
func empty(file *os.File, size int64) error {
	if err := file.Truncate(0); err != nil {
		return onScratch(err)
	}
	return onScratch(file.Truncate(size))
}

// writer brings entries into a file system and measures them.
type writer struct {
	to *ext4.Filler
	// bytes and inodes that the entries need.
	bytes, inodes int64
	strange       int
	// fit is false once the file system was full. The rest is only measured.
	fit bool
}

func (w *writer) write(ctx context.Context, entries iter.Seq2[Entry, error]) error {
	for entry, err := range entries {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.measure(entry.Header)
		if !w.fit {
			continue
		}
		err := w.add(ctx, entry)
		if errors.Is(err, ext4.ErrFull) {
			w.fit = false
			continue
		}
		if err != nil {
			return onScratch(err)
		}
	}
	return nil
}

// measure counts what an entry takes: whole blocks, its name, and its extended attributes.
func (w *writer) measure(h *tar.Header) {
	const name, block = 32, ext4.BlockSize
	w.bytes += int64(len(h.Name)) + name
	if kind(h) == tar.TypeLink {
		return
	}
	w.inodes++
	switch kind(h) {
	case tar.TypeReg:
		w.bytes += (max(h.Size, 0) + block - 1) / block * block
	case tar.TypeDir:
		w.bytes += block
	case tar.TypeSymlink:
		w.bytes += int64(len(h.Linkname))
	}
	if len(h.PAXRecords) > 0 {
		w.bytes += block
	}
}

// add brings one entry into the file system.
func (w *writer) add(ctx context.Context, entry Entry) error {
	h := entry.Header
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	a, err := w.attributes(h)
	if err != nil {
		return err
	}
	switch kind(h) {
	case tar.TypeDir:
		err = w.to.Directory(name, a)
	case tar.TypeReg:
		err = w.to.File(name, a, h.Size, &content{ctx: ctx, from: entry.Content})
	case tar.TypeSymlink:
		err = w.to.Symlink(name, a, h.Linkname)
	case tar.TypeLink:
		target, bad := cleanName(h.Linkname)
		if bad != nil {
			return bad
		}
		err = w.to.Link(name, target)
	case tar.TypeChar:
		err = w.special(name, a, ext4.CharacterDevice, h)
	case tar.TypeBlock:
		err = w.special(name, a, ext4.BlockDevice, h)
	case tar.TypeFifo:
		err = w.to.Special(name, a, ext4.FIFO, 0, 0)
	default:
		err = fmt.Errorf("%w: an entry of type %q", ext4.ErrEntry, h.Typeflag)
	}
	if err != nil && !errors.Is(err, ext4.ErrFull) {
		return fmt.Errorf("writing %s: %w", quote(h.Name), err)
	}
	return err
}

func (w *writer) special(name string, a ext4.Attributes, k ext4.Kind, h *tar.Header) error {
	if h.Devmajor < 0 || h.Devmajor > math.MaxUint32 || h.Devminor < 0 || h.Devminor > math.MaxUint32 {
		return fmt.Errorf("%w: device %d:%d", ext4.ErrEntry, h.Devmajor, h.Devminor)
	}
	return w.to.Special(name, a, k, uint32(h.Devmajor), uint32(h.Devminor))
}

func (w *writer) attributes(h *tar.Header) (ext4.Attributes, error) {
	if h.Uid < 0 || h.Uid > math.MaxUint32 || h.Gid < 0 || h.Gid > math.MaxUint32 {
		return ext4.Attributes{}, fmt.Errorf("writing %s: %w: owner %d:%d", quote(h.Name), ext4.ErrEntry, h.Uid, h.Gid)
	}
	known, strange := extended(h)
	w.strange += strange
	return ext4.Attributes{
		Mode: uint16(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid), Modified: h.ModTime, Extended: known,
	}, nil
}

// onScratch gives an error of the file system its reason. What the entries fail with keeps its own.
func onScratch(err error) error {
	var known interface{ Reason() string }
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, ext4.ErrEntry):
		return refusal.By(refusal.ConversionFailed, "making file system", err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return refusal.By(noScratchSpace, "making file system: the scratch file cannot grow: give more scratch space", err)
	}
	return fmt.Errorf("making file system: %w", err)
}
