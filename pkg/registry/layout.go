package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/containers/image/v5/manifest"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/source"
)

// files are the files of an OCI layout: those of a directory, or the entries of a .tar.
type files interface {
	// open returns a file by its path with slashes, and gives it a name for people. The reason
	// of its error is NotFound when there is none.
	open(path, name string) (Blob, error)
	close() error
}

// layout is an image on disk, in the form of the OCI image layout specification.
type layout struct {
	corner corner
	files  files
}

func openLayout(ctx context.Context, scheme, rest string, p platform, pin digest.Digest, o Options) (*Image, error) {
	c, err := parseCorner(scheme, rest)
	if err != nil {
		return nil, err
	}
	open := openDirectory
	if c.archive {
		open = openArchive
	}
	f, err := open(ctx, c.path)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", c, err)
	}
	l := &layout{corner: c, files: f}
	image, err := l.image(ctx, p, pin, o)
	if err != nil {
		_ = f.close()
		return nil, err
	}
	return image, nil
}

func (l *layout) image(ctx context.Context, p platform, pin digest.Digest, o Options) (*Image, error) {
	name := l.corner.String()
	top, err := l.top(ctx, p, pin)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	chosen, err := choose(ctx, name, top, p, l.manifest)
	if err != nil {
		return nil, err
	}
	if pin != "" && !chosen.has(pin) {
		return nil, fail(source.SourceChanged, "%s is no longer the pinned image: its manifest is %s, pinned is %s", name, chosen.manifest.digest, pin)
	}
	if err := verifyLocal(ctx, name, l.corner, chosen, o); err != nil {
		return nil, err
	}
	return &Image{name: name, store: l, chosen: chosen}, nil
}

// top finds the manifest or index that the reference names.
func (l *layout) top(ctx context.Context, p platform, pin digest.Digest) (document, error) {
	f, err := l.files.open("index.json", "index.json")
	if err != nil {
		return document{}, err
	}
	raw, err := readSmall(ctx, f)
	if err = closed(f, err); err != nil {
		return document{}, err
	}
	entries, err := readIndex(raw)
	if err != nil {
		return document{}, err
	}
	d, err := l.corner.choose(entries, p, pin)
	if err != nil {
		return document{}, err
	}
	raw, contentType, err := l.manifest(ctx, d)
	if err != nil {
		return document{}, err
	}
	if n := slices.IndexFunc(entries, func(e imgspec.Descriptor) bool { return e.Digest == d }); n >= 0 {
		contentType = entries[n].MediaType
	}
	return newDocument(raw, contentType, d)
}

// readIndex reads index.json.
func readIndex(raw []byte) ([]imgspec.Descriptor, error) {
	d, err := newDocument(raw, imgspec.MediaTypeImageIndex, "")
	if err != nil {
		return nil, err
	}
	var index imgspec.Index
	if json.Unmarshal(d.raw, &index) != nil || index.SchemaVersion != 2 {
		return nil, refusal.New(refusal.CorruptImage, "index.json cannot be read: it is not that of an OCI layout")
	}
	if len(index.Manifests) == 0 {
		return nil, refusal.New(refusal.CorruptImage, "index.json names no image")
	}
	return index.Manifests, nil
}

// choose returns the digest of the entry that the corner means.
func (c corner) choose(entries []imgspec.Descriptor, p platform, pin digest.Digest) (digest.Digest, error) {
	all := entries
	if c.tag != "" {
		entries = slices.DeleteFunc(slices.Clone(entries), func(e imgspec.Descriptor) bool {
			name := e.Annotations[imgspec.AnnotationRefName]
			return name != c.tag && !strings.HasSuffix(name, ":"+c.tag)
		})
	}
	switch {
	case c.position >= 0:
		if c.position >= len(all) {
			return "", fail(source.NotFound, "index.json has %d images, none at the position %d", len(all), c.position)
		}
		return all[c.position].Digest, checkDigest(all[c.position].Digest)
	case len(entries) == 0:
		return "", fail(source.NotFound, "the layout has no tag %.100q: %s", c.tag, offered(all))
	case c.digest != "":
		return c.digest, nil
	case pin != "":
		return pin, nil
	}
	var list manifest.OCI1Index
	unplaced := 0
	for _, e := range entries {
		if slices.ContainsFunc(list.Manifests, func(other imgspec.Descriptor) bool { return other.Digest == e.Digest && e.Platform == nil }) {
			continue
		}
		list.Manifests = append(list.Manifests, e)
		if e.Platform == nil {
			unplaced++
		}
	}
	if unplaced > 1 {
		return "", fail(invalidOptions, "the layout has several images: choose one, %s", offered(all))
	}
	d, _, err := pickFrom(c.String(), &list, list.Manifests, p)
	return d, err
}

// offered lists the tags of a layout for people.
func offered(entries []imgspec.Descriptor) string {
	var names []string
	for _, e := range entries {
		if name := e.Annotations[imgspec.AnnotationRefName]; name != "" && !slices.Contains(names, name) {
			names = append(names, shorten(name))
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("by position from @0 to @%d", len(entries)-1)
	}
	return shorten("it has " + strings.Join(names, ", "))
}

// manifest gets a manifest by its digest.
func (l *layout) manifest(ctx context.Context, d digest.Digest) ([]byte, string, error) {
	b, err := l.open(d)
	if err != nil {
		return nil, "", err
	}
	raw, err := readSmall(ctx, b)
	return raw, "", closed(b, err)
}

// blob implements store.
func (l *layout) blob(_ context.Context, layer Layer) (Blob, error) {
	return l.open(digest.Digest(layer.Digest))
}

func (l *layout) open(d digest.Digest) (Blob, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	b, err := l.files.open("blobs/"+d.Algorithm().String()+"/"+d.Encoded(), l.corner.String()+" "+d.String())
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", l.corner, err)
	}
	return b, nil
}

func (l *layout) close() error { return l.files.close() }

// directory is a layout whose files are files.
type directory struct{ root *os.Root }

func openDirectory(_ context.Context, path string) (files, error) {
	root, err := os.OpenRoot(path)
	switch {
	case err == nil:
		return directory{root}, nil
	case errors.Is(err, os.ErrNotExist):
		return nil, fail(source.NotFound, "there is no such directory: check the path")
	case errors.Is(err, os.ErrPermission):
		return nil, fail(source.AuthenticationFailed, "the directory may not be read: check its permissions")
	case errors.Is(err, syscall.ENOTDIR):
		return nil, fail(source.SourceRefused, "it is no directory: write oci-archive: for a .tar of another name")
	}
	return nil, failBy(source.SourceRefused, "opening the directory", plainPath(err))
}

// open implements files. No link leads out of the directory, and a pipe does not block.
func (d directory) open(path, name string) (Blob, error) {
	f, err := d.root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, absent("not a whole OCI layout", path)
	case errors.Is(err, os.ErrPermission):
		return nil, fail(source.AuthenticationFailed, "%s may not be read: check its permissions", path)
	case err != nil:
		return nil, failBy(source.SourceRefused, "opening "+path, plainPath(err))
	}
	stat, err := f.Stat()
	if err != nil {
		return nil, closeAfter(f, failBy(source.SourceRefused, "opening "+path, plainPath(err)))
	}
	if !stat.Mode().IsRegular() {
		return nil, closeAfter(f, refusal.New(refusal.UnsafeImage, path+" is no file"))
	}
	return whole{source.Section(f, stat, name, 0, stat.Size()), f}, nil
}

func (d directory) close() error { return d.root.Close() }

// plainPath takes the path out of an error.
func plainPath(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// whole is a Blob of a whole file, which is closed with it.
type whole struct {
	Blob
	file *os.File
}

// Close implements Blob.
func (w whole) Close() error { return w.file.Close() }

// readSmall reads a manifest, or another small file of a layout.
func readSmall(ctx context.Context, b Blob) ([]byte, error) {
	if b.Size() > maxManifest {
		return nil, tooLarge()
	}
	raw := make([]byte, b.Size())
	if _, err := b.ReadAt(ctx, raw, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return raw, nil
}

// absent is a blob that index.json or a manifest promises.
func absent(layout, name string) error {
	return failBy(source.NotFound, layout, refusal.New(refusal.CorruptImage, name+" is missing: copy the whole layout"))
}
