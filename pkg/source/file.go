package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"

	"golang.org/x/sys/unix"
)

// fileImage reads a local file or block device, for use in a shell.
type fileImage struct{ section }

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
	i := &fileImage{section{file: f, stat: stat, name: name(u), size: size}}
	_, lastModified := i.Validators()
	return i, checkPin(u, o.Pin, Revision{LastModified: lastModified, Length: size})
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

// Validators implements Image. The time of a file stands for its Last-Modified.
func (i *fileImage) Validators() (etag, lastModified string) {
	return "", i.stat.ModTime().UTC().Format(http.TimeFormat)
}

// Close implements Image.
func (i *fileImage) Close() error { return i.file.Close() }
