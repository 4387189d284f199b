package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/gild-project/gild/pkg/format/confine"
	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/rootfs/ext4"
)

const (
	// toolMemory is the address space of a tool, toolSeconds its processor time. e2fsck needs some
	// 100 MiB for a file system of 1 TiB.
	toolMemory  = 1 << 30
	toolSeconds = 600
	// roomy is the size of a file system before its own size is known.
	roomy = 256 << 30
	// bytesPerInode is the share of an inode when the size follows the content, usualBytesPerInode
	// that of mke2fs otherwise, and smallBytesPerInode that below smallSize.
	bytesPerInode      = 8192
	usualBytesPerInode = 16384
	smallBytesPerInode = 4096
	smallSize          = 512 << 20
	inChild            = "/proc/self/fd/3"
)

// features are those that mke2fs gives in Debian 12. They are named here, because what an empty
// file system looks like must not depend on a mke2fs.conf, and every supported kernel knows them.
const features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg," +
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// tools are the programs of e2fsprogs, at work on one file.
type tools struct{ file *os.File }

// format makes an empty file system of so many bytes.
func (t tools) format(ctx context.Context, size int64, journal bool) error {
	// Groups whose tables are next to each other are usual.
	perInode, wanted, together := int64(bytesPerInode), features, "16"
	switch {
	case !journal:
		// The journal's size depends on that of the file system, which is not known yet. With
		// tables in their own group, to shrink means to cut off groups, and nothing has to move.
		wanted += ",^has_journal"
		together = "1"
	case size < smallSize:
		perInode = smallBytesPerInode
	default:
		perInode = usualBytesPerInode
	}
	return t.run(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-b", strconv.Itoa(ext4.BlockSize), "-I", "256", "-m", "1", "-G", together,
		"-i", strconv.FormatInt(perInode, 10), "-O", wanted,
		// The file reads as zeros: a guest need not write its inode tables in the background.
		"-E", "nodiscard,assume_storage_prezeroed=1,root_owner=0:0", inChild, strconv.FormatInt(size/ext4.BlockSize, 10))
}

// check refuses a file system that is not clean. That would be our own fault.
func (t tools) check(ctx context.Context) error { return t.run(ctx, "e2fsck", "-f", "-n", inChild) }

// index gives large directories their index, which only speeds up looking for names.
func (t tools) index(ctx context.Context) error {
	// Its exit code is 1, because the file system changes. The check tells whether it is sound.
	var failure *confine.Failure
	if err := t.start(ctx, "e2fsck", "-f", "-p", "-D", inChild); err != nil && (!errors.As(err, &failure) || failure.Missing || failure.Killed) {
		return t.reason("e2fsck", err)
	}
	return t.check(ctx)
}

// shrink gives a file system its size and its journal.
func (t tools) shrink(ctx context.Context, size int64) error {
	if err := t.run(ctx, "resize2fs", "-f", inChild, strconv.FormatInt(size/ext4.BlockSize, 10)); err != nil {
		return err
	}
	if err := t.file.Truncate(size); err != nil {
		return onScratch(err)
	}
	if err := t.run(ctx, "tune2fs", "-j", inChild); err != nil {
		return err
	}
	return t.check(ctx)
}

func (t tools) run(ctx context.Context, name string, args ...string) error {
	if err := t.start(ctx, name, args...); err != nil {
		return t.reason(name, err)
	}
	return nil
}

func (t tools) start(ctx context.Context, name string, args ...string) error {
	return confine.Run(ctx, confine.Tool{Name: name, Args: args, Memory: toolMemory, Seconds: toolSeconds, Files: []*os.File{t.file}})
}

// reason gives a failed run its reason.
func (t tools) reason(name string, err error) error {
	var failure *confine.Failure
	if !errors.As(err, &failure) {
		return err
	}
	switch {
	case failure.Missing:
		return refusal.By(refusal.InternalError, "starting "+name+": install e2fsprogs and util-linux", failure)
	case failure.Killed:
		return refusal.New(refusal.ConversionFailed, fmt.Sprintf("making file system: %s was killed: it may use %d s of processor time, or the memory limit was too low", name, toolSeconds))
	case strings.Contains(failure.Error(), "No space left on device"):
		return refusal.By(noScratchSpace, "making file system: the scratch file cannot grow: give more scratch space", failure)
	}
	return refusal.By(refusal.InternalError, "making file system: "+name+" failed", failure)
}
