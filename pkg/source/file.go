package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// fileImage reads a local file or block device, for use in a shell.
type fileImage struct {
	file   *os.File
	name   string
	size   int64
	stat   os.FileInfo
	offset int64
	// fetched counts the bytes that were read.
	fetched atomic.Int64
}

var _ Image = (*fileImage)(nil)

// openFile opens the file at u, or the only one in the directory at u.
func openFile(u *url.URL, o Options) (*fileImage, error) {
	f, err := os.Open(u.Path)
	if err != nil {
		return nil, fileError(u, err)
	}
	stat, err := f.Stat()
	if err == nil && stat.IsDir() {
		directory := f
		f, u, err = openOnly(u)
		_ = directory.Close()
	}
	if err != nil {
		return nil, err
	}
	i, err := newFileImage(f, u, o)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return i, nil
}

// openOnly opens the only file in the directory at u, as KubeVirt's container disks have theirs.
// A link may lead anywhere, so it does not count as a file.
func openOnly(u *url.URL) (*os.File, *url.URL, error) {
	root, err := os.OpenRoot(u.Path)
	if err != nil {
		return nil, nil, fileError(u, err)
	}
	defer func() { _ = root.Close() }()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, nil, fileError(u, err)
	}
	switch {
	case len(entries) == 0:
		return nil, nil, fail(NoDisk, name(u)+" is an empty directory: there must be one file in it")
	case len(entries) > 1:
		return nil, nil, fail(SeveralDisks, fmt.Sprintf("%s is a directory with %d files, for example %q and %q: there must be one", name(u), len(entries), entries[0].Name(), entries[1].Name()))
	case !entries[0].Type().IsRegular():
		return nil, nil, fail(NoDisk, fmt.Sprintf("%s is a directory, and %q in it is no regular file", name(u), entries[0].Name()))
	}
	only := u.JoinPath(entries[0].Name())
	f, err := root.Open(entries[0].Name())
	if err != nil {
		return nil, nil, fileError(only, err)
	}
	return f, only, nil
}

// File is an Image of an open file, with a name for people. Close closes the file.
func File(f *os.File, name string) (Image, error) {
	i, err := newFileImage(f, &url.URL{Scheme: "file", Path: name}, Options{})
	if err != nil {
		return nil, err
	}
	i.name = name
	return i, nil
}

func fileError(u *url.URL, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fail(NotFound, name(u)+" does not exist: check the path")
	case errors.Is(err, os.ErrPermission):
		return fail(AuthenticationFailed, name(u)+" may not be read: check its permissions")
	}
	return failBy(SourceRefused, "opening "+name(u), err)
}

func newFileImage(f *os.File, u *url.URL, o Options) (*fileImage, error) {
	stat, err := f.Stat()
	if err != nil {
		return nil, fileError(u, err)
	}
	blockDevice := stat.Mode()&os.ModeDevice != 0 && stat.Mode()&os.ModeCharDevice == 0
	if !stat.Mode().IsRegular() && !blockDevice {
		return nil, fail(SourceRefused, name(u)+" is neither a file nor a block device")
	}
	// Seeking gives the size of both.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fileError(u, err)
	}
	if size == 0 {
		return nil, fail(EmptySource, name(u)+" has no bytes")
	}
	i := &fileImage{file: f, name: name(u), size: size, stat: stat}
	_, lastModified := i.Validators()
	return i, checkPin(u, o.Pin, Revision{LastModified: lastModified, Length: size})
}

// Read implements Image.
func (i *fileImage) Read(ctx context.Context, p []byte) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	if i.offset == i.size {
		return 0, i.unchanged()
	}
	p = p[:min(int64(len(p)), i.size-i.offset)]
	n, err := i.file.ReadAt(p, i.offset)
	i.offset += int64(n)
	i.fetched.Add(int64(n))
	if n > 0 || err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		return 0, &Error{reason: SourceUnstable, message: i.name + " became shorter while it was read", startOver: true}
	}
	return 0, failBy(SourceRefused, fmt.Sprintf("reading %s at byte %d", i.name, i.offset), err)
}

// ReadAt implements Image.
func (i *fileImage) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	n, err := i.file.ReadAt(p, off)
	i.fetched.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		return n, failBy(SourceRefused, fmt.Sprintf("reading %s at byte %d", i.name, off), err)
	}
	if changed := i.unchanged(); !errors.Is(changed, io.EOF) {
		return 0, changed
	}
	return n, err
}

// Ranged implements Image.
func (i *fileImage) Ranged() bool { return true }

// Rewind implements Image.
func (i *fileImage) Rewind(context.Context) error {
	i.offset = 0
	return nil
}

// unchanged returns io.EOF, or an error when the file was written to meanwhile.
func (i *fileImage) unchanged() error {
	stat, err := i.file.Stat()
	if err != nil {
		return failBy(SourceRefused, "reading "+i.name, err)
	}
	if !stat.ModTime().Equal(i.stat.ModTime()) || stat.Size() != i.stat.Size() {
		return &Error{reason: SourceUnstable, message: i.name + " changed while it was read", startOver: true}
	}
	return io.EOF
}

// Tail implements Image.
func (i *fileImage) Tail(_ context.Context, n int64) ([]byte, error) {
	if i.size < n {
		return nil, errors.New("the source is shorter")
	}
	tail := make([]byte, n)
	got, err := i.file.ReadAt(tail, i.size-n)
	i.fetched.Add(int64(got))
	if err != nil {
		return nil, fmt.Errorf("reading the end of the source: %w", err)
	}
	return tail, nil
}

// File is the open file itself: it need not be copied to be read at random.
func (i *fileImage) File() *os.File { return i.file }

// NextData returns the first place at or behind off that is no hole, the size if there is none.
func (i *fileImage) NextData(off int64) int64 {
	next, err := unix.Seek(int(i.file.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return i.size
	case err != nil:
		return off // not every file system knows
	}
	return next
}

// Fetched implements Image.
func (i *fileImage) Fetched() int64 { return i.fetched.Load() }

// Size implements Image.
func (i *fileImage) Size() int64 { return i.size }

// Framed implements Image.
func (i *fileImage) Framed() bool { return true }

// Validators implements Image. The time of a file stands for its Last-Modified.
func (i *fileImage) Validators() (etag, lastModified string) {
	return "", i.stat.ModTime().UTC().Format(http.TimeFormat)
}

// ContentType implements Image.
func (i *fileImage) ContentType() string { return "" }

// Name implements Image.
func (i *fileImage) Name() string { return i.name }

// Close implements Image.
func (i *fileImage) Close() error { return i.file.Close() }
