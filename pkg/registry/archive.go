package registry

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/source"
)

// maxEntries bounds the names in an archive.
const maxEntries = 1 << 16

// archive is a .tar of a layout. Nothing is unpacked: its files are read where they lie.
type archive struct {
	file  *os.File
	stat  os.FileInfo
	spans map[string]span
}

// span is where the bytes of an entry lie in the archive.
type span struct{ off, size int64 }

func openArchive(ctx context.Context, path string) (files, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fail(source.NotFound, "there is no such file: check the path")
	case errors.Is(err, os.ErrPermission):
		return nil, fail(source.AuthenticationFailed, "the file may not be read: check its permissions")
	case err != nil:
		return nil, failBy(source.SourceRefused, "opening the file", plainPath(err))
	}
	stat, err := f.Stat()
	if err != nil {
		return nil, closeAfter(f, failBy(source.SourceRefused, "opening the file", plainPath(err)))
	}
	if !stat.Mode().IsRegular() {
		return nil, closeAfter(f, fail(source.SourceRefused, "it is no file"))
	}
	a := &archive{file: f, stat: stat, spans: map[string]span{}}
	if err := a.index(ctx); err != nil {
		return nil, closeAfter(f, err)
	}
	return a, nil
}

// kept are the names that an image can need.
func kept(name string) bool {
	rest, blob := strings.CutPrefix(name, "blobs/")
	algorithm, encoded, _ := strings.Cut(rest, "/")
	return name == "index.json" || blob && checkDigest(digest.Digest(algorithm+":"+encoded)) == nil
}

// index reads the heads of all entries.
func (a *archive) index(ctx context.Context) error {
	r := tar.NewReader(a.file)
	for n := 0; ; n++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return a.whole(n)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return refusal.New(refusal.TruncatedImage, "the archive ends early: copy it again")
		case errors.Is(err, tar.ErrHeader) && n == 0:
			return refusal.New(refusal.UnsupportedFormat, "it is no .tar: give an OCI layout, unpacked or in a .tar that is not compressed")
		case errors.Is(err, tar.ErrHeader):
			return refusal.New(refusal.CorruptImage, fmt.Sprintf("entry %d of the archive cannot be read", n))
		case err != nil:
			return failBy(source.SourceRefused, "reading the archive", plainPath(err))
		case n == maxEntries:
			return refusal.New(refusal.UnsafeImage, fmt.Sprintf("the archive has more than %d entries", maxEntries))
		}
		if slices.Contains(strings.Split(h.Name, "/"), "..") {
			return refusal.New(refusal.UnsafeImage, fmt.Sprintf("the archive has the unsafe name %.100q", h.Name))
		}
		name := path.Clean(h.Name)
		if h.Typeflag != tar.TypeReg || !kept(name) {
			continue
		}
		if _, twice := a.spans[name]; twice {
			return refusal.New(refusal.CorruptImage, fmt.Sprintf("the archive has two entries %.100q", name))
		}
		off, err := a.file.Seek(0, io.SeekCurrent)
		if err != nil {
			return failBy(source.SourceRefused, "reading the archive", plainPath(err))
		}
		if sparse(h) {
			return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("the archive has the sparse entry %.100q: pack it again without", name))
		}
		if h.Size > a.stat.Size()-off {
			return refusal.New(refusal.TruncatedImage, fmt.Sprintf("the archive ends within %.100q: copy it again", name))
		}
		a.spans[name] = span{off, h.Size}
	}
}

// sparse tells the entries whose bytes are not in one piece.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

func (a *archive) whole(entries int) error {
	if entries == 0 {
		return refusal.New(refusal.UnsupportedFormat, "it is no .tar with entries: give an OCI layout in a .tar")
	}
	_, found := a.spans["index.json"]
	if !found && a.stat.Size()%512 != 0 {
		return refusal.New(refusal.TruncatedImage, "the archive ends early: copy it again")
	}
	if !found {
		return refusal.New(refusal.UnsupportedFormat, "the archive has no index.json: give one in the OCI form")
	}
	return nil
}

// open implements files.
func (a *archive) open(path, name string) (Blob, error) {
	s, found := a.spans[path]
	if !found {
		return nil, absent("not a whole OCI layout", path)
	}
	return source.Section(a.file, a.stat, name, s.off, s.size), nil
}

func (a *archive) close() error { return a.file.Close() }
