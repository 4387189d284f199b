package rootfs

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// Files writes the entries as plain files to the volume mounted at dir. A failure leaves nothing
// of them on the volume. A killed run leaves what the next one takes away first. Files that
// somebody else put there are a refusal.
//
// No name leads out of the volume, and symbolic links are written but never followed. Modes and
// times are kept. As root, so are owners and all extended attributes. Else all belongs to the
// process; files lose set-user-ID and set-group-ID, which would mean another user, directories
// take set-group-ID from the volume too, and only attributes of the user name space are kept.
// Device nodes, FIFOs and what is in lost+found are left out, and so are attributes that the
// volume does not take: they are counted and told. The volume's own root keeps its owner and mode.
func Files(ctx context.Context, entries iter.Seq2[Entry, error], dir string, o Options) (err error) {
	v, err := openVolume(dir)
	if err != nil {
		return onVolume(err)
	}
	defer func() { err = errors.Join(err, v.root.Close()) }()
	if err := v.prepare(); err != nil {
		return onVolume(err)
	}
	left, err := v.fill(ctx, entries)
	if err != nil {
		if failed := v.clear(); failed != nil {
			return errors.Join(err, fmt.Errorf("removing what was written: %w", failed))
		}
		return err
	}
	o.notice(left.String())
	return nil
}

// fill writes the tree aside, puts it in its place and makes it durable.
func (v *volume) fill(ctx context.Context, entries iter.Seq2[Entry, error]) (left, error) {
	t, err := v.newTree()
	if err != nil {
		return left{}, onVolume(err)
	}
	defer t.close()
	for entry, err := range entries {
		if err != nil {
			return left{}, err
		}
		if ctx.Err() != nil {
			return left{}, context.Cause(ctx)
		}
		if err := t.add(ctx, entry); err != nil {
			return left{}, fmt.Errorf("writing %s: %w", quote(entry.Header.Name), err)
		}
	}
	return t.left, onVolume(v.finish(t))
}

// finish brings the tree from aside to its place. A directory at the top gets its mode last:
// one that cannot be written cannot be moved either.
func (v *volume) finish(t *tree) error {
	if err := t.settle(t.root, func(name string) bool { return !isTop(name) }); err != nil {
		return err
	}
	if err := v.place(); err != nil {
		return err
	}
	if err := t.settle(v.root, isTop); err != nil {
		return err
	}
	return v.done()
}

// left counts what was left out.
type left struct{ special, attributes, found int }

// String says what was left out. Empty: nothing.
func (l left) String() string {
	if l == (left{}) {
		return ""
	}
	return fmt.Sprintf("left out of the files: device nodes and FIFOs: %d, extended attributes: %d, entries of lost+found: %d",
		l.special, l.attributes, l.found)
}

// onVolume gives a failed system call on the volume its reason.
func onVolume(err error) error {
	var known interface{ Reason() string }
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return refusal.By(refusal.NoSpace, "writing files: the volume is full: ask for a larger one", err)
	case errors.Is(err, unix.EFBIG):
		return refusal.By(refusal.TooLarge, "writing files: the volume cannot hold so large a file", err)
	case errors.Is(err, unix.ENAMETOOLONG):
		return refusal.By(refusal.ConversionFailed, "writing files: the volume cannot hold so long a name", err)
	}
	return refusal.By(refusal.TargetError, "writing files", err)
}
