package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// drawing is an OCI layout to be written: its files by name.
type drawing struct {
	names []string
	files map[string][]byte
}

func (d *drawing) add(name string, content []byte) {
	if d.files == nil {
		d.files = map[string][]byte{}
	}
	if _, found := d.files[name]; !found {
		d.names = append(d.names, name)
	}
	d.files[name] = content
}

func (d *drawing) blob(content []byte) digest.Digest {
	sum := digest.FromBytes(content)
	d.add("blobs/sha256/"+sum.Encoded(), content)
	return sum
}

func (d *drawing) json(t *testing.T, value any) ([]byte, digest.Digest) {
	t.Helper()
	raw, err := json.Marshal(value)
	require.NoError(t, err)
	return raw, d.blob(raw)
}

// plan is how a layout differs from a good one.
type plan struct {
	layer    func(l *imgspec.Descriptor)
	manifest func(m *imgspec.Manifest)
	// patch spoils the files before they are written.
	patch     func(d *drawing, layer imgspec.Descriptor)
	platforms []string
}

// draw makes the layouts of the corpus: one image with one layer, tagged latest.
func draw(t *testing.T, content []byte, p plan) *drawing {
	t.Helper()
	d := &drawing{}
	d.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	config, configDigest := d.json(t, map[string]any{"architecture": "amd64", "os": "linux", "config": map[string]any{}})
	layer := imgspec.Descriptor{MediaType: imgspec.MediaTypeImageLayerGzip, Digest: d.blob(content), Size: int64(len(content))}
	real := layer
	if p.layer != nil {
		p.layer(&layer)
	}
	m := imgspec.Manifest{
		MediaType: imgspec.MediaTypeImageManifest, Layers: []imgspec.Descriptor{layer},
		Config: imgspec.Descriptor{MediaType: imgspec.MediaTypeImageConfig, Digest: configDigest, Size: int64(len(config))},
	}
	m.SchemaVersion = 2
	if p.manifest != nil {
		p.manifest(&m)
	}
	raw, sum := d.json(t, m)
	index := imgspec.Index{MediaType: imgspec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	entry := imgspec.Descriptor{MediaType: m.MediaType, Digest: sum, Size: int64(len(raw)), Annotations: map[string]string{imgspec.AnnotationRefName: "latest"}}
	index.Manifests = []imgspec.Descriptor{entry}
	for n, architecture := range p.platforms {
		entry.Platform = &imgspec.Platform{OS: "linux", Architecture: architecture}
		index.Manifests = append(index.Manifests[:n:n], entry)
	}
	text, err := json.Marshal(index)
	require.NoError(t, err)
	d.add("index.json", text)
	if p.patch != nil {
		p.patch(d, real)
	}
	return d
}

// directory writes the layout as files.
func (d *drawing) directory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range d.files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	return dir
}

// archive writes it as a .tar. extra are entries before all others.
func (d *drawing) archive(t *testing.T, format tar.Format, extra ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range extra {
		require.NoError(t, w.WriteHeader(&h))
	}
	for _, name := range d.names {
		content := d.files[name]
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Format: format}))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// both are the references of a layout in its two forms.
func (d *drawing) both(t *testing.T) []string {
	t.Helper()
	return []string{"oci:" + d.directory(t), "oci:" + file(t, "layout.tar", d.archive(t, tar.FormatPAX))}
}

// TestCorpusLayouts are the OCI rows of the corpus, made as its gen.sh makes them.
func TestCorpusLayouts(t *testing.T) {
	content := random(3 * mib)
	foreign := "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	for name, c := range map[string]struct {
		plan plan
		// open and blob are the reasons for which each is refused; sum tells that the bytes are
		// not those of the digest, which the reader of the blob must see.
		open, blob string
		sum        bool
	}{
		"oci-good":      {},
		"oci-multiarch": {plan: plan{platforms: []string{"amd64", "arm64"}}},
		"bad-oci-blob-digest": {plan: plan{patch: func(d *drawing, l imgspec.Descriptor) {
			lie := bytes.Clone(content)
			lie[len(lie)-20] ^= 1
			d.add("blobs/sha256/"+l.Digest.Encoded(), lie)
		}}, sum: true},
		"bad-oci-blob-short": {plan: plan{patch: func(d *drawing, l imgspec.Descriptor) {
			d.add("blobs/sha256/"+l.Digest.Encoded(), content[:len(content)-1000])
		}}, blob: "DigestMismatch"},
		"bad-oci-size-lies-small": {plan: plan{layer: func(l *imgspec.Descriptor) { l.Size = 100 }}, blob: "DigestMismatch"},
		"bad-oci-size-lies-big":   {plan: plan{layer: func(l *imgspec.Descriptor) { l.Size *= 1000 }}, blob: "DigestMismatch"},
		"bad-oci-foreign-urls": {plan: plan{layer: func(l *imgspec.Descriptor) {
			l.MediaType, l.URLs = foreign, []string{"http://169.254.169.254/latest/meta-data/"}
		}}},
		"bad-oci-digest-traversal": {plan: plan{layer: func(l *imgspec.Descriptor) { l.Digest = "sha256:../../../../etc/passwd" }}, open: "CorruptImage"},
		"bad-oci-digest-md5":       {plan: plan{layer: func(l *imgspec.Descriptor) { l.Digest = "md5:d41d8cd98f00b204e9800998ecf8427e" }}, open: "UnsupportedFormat"},
		"bad-oci-manifest-8MiB": {plan: plan{manifest: func(m *imgspec.Manifest) {
			m.Annotations = map[string]string{"x": strings.Repeat("a", 8*mib)}
		}}, open: "UnsafeImage"},
		"bad-oci-wrong-mediatype": {plan: plan{layer: func(l *imgspec.Descriptor) { l.MediaType = imgspec.MediaTypeImageLayerZstd }}},
		"foreign layer that is not there": {plan: plan{layer: func(l *imgspec.Descriptor) {
			l.MediaType, l.Digest = foreign, digest.FromString("elsewhere")
		}}, blob: "UnsupportedFormat"},
		"missing layer":    {plan: plan{layer: func(l *imgspec.Descriptor) { l.Digest = digest.FromString("nowhere") }}, blob: "NotFound"},
		"no index":         {plan: plan{patch: func(d *drawing, _ imgspec.Descriptor) { d.add("index.json", []byte("{}")) }}, open: "CorruptImage"},
		"index of 8 MiB":   {plan: plan{patch: func(d *drawing, _ imgspec.Descriptor) { d.add("index.json", bytes.Repeat([]byte(" "), 8*mib)) }}, open: "UnsafeImage"},
		"missing manifest": {plan: plan{patch: func(d *drawing, _ imgspec.Descriptor) { d.add("index.json", entryOf(digest.FromString("nowhere"))) }}, open: "NotFound"},
		"odd manifest":     {plan: plan{patch: func(d *drawing, _ imgspec.Descriptor) { d.add("index.json", entryOf("sha256:../../../index.json")) }}, open: "CorruptImage"},
		"manifest that lies": {plan: plan{patch: func(d *drawing, _ imgspec.Descriptor) {
			d.add("blobs/sha256/"+digest.FromString("x").Encoded(), []byte("{}"))
			d.add("index.json", entryOf(digest.FromString("x")))
		}}, open: "DigestMismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, ref := range draw(t, content, c.plan).both(t) {
				o, _ := options(t)
				if c.open != "" {
					failure(t, ref, o, c.open)
					continue
				}
				image := open(t, ref, o)
				require.Len(t, image.Layers(), 1)
				b, err := image.Blob(t.Context(), image.Layers()[0])
				if c.blob != "" {
					requireReason(t, err, c.blob)
					continue
				}
				require.NoError(t, err)
				require.True(t, b.Ranged())
				got, err := readAll(t.Context(), b)
				require.NoError(t, err)
				require.Equal(t, c.sum, !bytes.Equal(content, got))
				require.Equal(t, int64(len(content)), b.Fetched())
				require.NoError(t, b.Rewind(t.Context()))
				tail, err := b.Tail(t.Context(), 100)
				require.NoError(t, err)
				require.Equal(t, got[len(got)-100:], tail)
				require.NoError(t, b.Close())
			}
		})
	}
}

// entryOf is an index.json with one manifest.
func entryOf(d digest.Digest) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":2}]}`, imgspec.MediaTypeImageManifest, d)
}

func TestChoiceInALayout(t *testing.T) {
	d := draw(t, []byte("one"), plan{})
	other := draw(t, []byte("other"), plan{})
	for _, name := range other.names {
		if strings.HasPrefix(name, "blobs/") {
			d.add(name, other.files[name])
		}
	}
	var both, second imgspec.Index
	require.NoError(t, json.Unmarshal(d.files["index.json"], &both))
	require.NoError(t, json.Unmarshal(other.files["index.json"], &second))
	second.Manifests[0].Annotations[imgspec.AnnotationRefName] = "registry.example/disk:2"
	both.Manifests = append(both.Manifests, second.Manifests[0])
	text, err := json.Marshal(both)
	require.NoError(t, err)
	d.add("index.json", text)
	first := both.Manifests[0].Digest.String()
	last := both.Manifests[1].Digest.String()
	for _, ref := range d.both(t) {
		for suffix, want := range map[string]string{
			":latest": first, ":2": last, ":registry.example/disk:2": last, "@0": first, ":@1": last, "@" + last: last, ":latest@" + first: first,
		} {
			o, _ := options(t)
			require.Equal(t, want, open(t, ref+suffix, o).Digest(), suffix)
		}
		o, _ := options(t)
		err := refused(t, ref, o, "InvalidOptions")
		require.ErrorContains(t, err, "latest, registry.example/disk:2")
		failure(t, ref+":3", o, "NotFound")
		failure(t, ref+"@2", o, "NotFound")
		failure(t, ref+"@"+digest.FromString("nowhere").String(), o, "NotFound")
		o.Digest = last
		require.Equal(t, last, open(t, ref, o).Digest())
		failure(t, ref+"@"+first, o, "SourceChanged")
	}
}

func TestPlatformInALayout(t *testing.T) {
	for _, ref := range draw(t, []byte("layer"), plan{platforms: []string{"amd64", "arm64"}}).both(t) {
		o, _ := options(t)
		o.Platform = "linux/riscv64"
		err := refused(t, ref, o, "PlatformNotFound")
		require.ErrorContains(t, err, "linux/amd64, linux/arm64")
	}
}

func TestArchivesThatAreRefused(t *testing.T) {
	d := draw(t, random(5000), plan{})
	good := d.archive(t, tar.FormatPAX)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write(good)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	var many []tar.Header
	for n := range 1<<16 + 1 {
		many = append(many, tar.Header{Name: fmt.Sprint(n)})
	}
	corrupt := bytes.Clone(good)
	at := bytes.Index(corrupt, []byte("index.json"))
	corrupt[at+148] ^= 1
	for name, c := range map[string]struct {
		content []byte
		reason  string
	}{
		"empty":         {nil, "UnsupportedFormat"},
		"no tar":        {random(5000), "UnsupportedFormat"},
		"compressed":    {packed.Bytes(), "UnsupportedFormat"},
		"no index":      {(&drawing{names: []string{"manifest.json"}, files: map[string][]byte{}}).archive(t, tar.FormatPAX), "UnsupportedFormat"},
		"cut":           {good[:len(good)-4000], "TruncatedImage"},
		"cut in a head": {good[:600], "TruncatedImage"},
		"header":        {corrupt, "CorruptImage"},
		"name with ..":  {d.archive(t, tar.FormatPAX, tar.Header{Name: "blobs/../../etc/passwd"}), "UnsafeImage"},
		"only ..":       {d.archive(t, tar.FormatPAX, tar.Header{Name: ".."}), "UnsafeImage"},
		"two of a name": {d.archive(t, tar.FormatPAX, tar.Header{Name: "./index.json"}), "CorruptImage"},
		"many entries":  {d.archive(t, tar.FormatPAX, many...), "UnsafeImage"},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := options(t)
			failure(t, "oci:"+file(t, "layout.tar", c.content), o, c.reason)
		})
	}
}

// TestArchiveForms reads what other tools write.
func TestArchiveForms(t *testing.T) {
	d := draw(t, random(5000), plan{})
	for name, format := range map[string]tar.Format{"ustar": tar.FormatUSTAR, "pax": tar.FormatPAX, "gnu": tar.FormatGNU} {
		dotted := &drawing{}
		for _, n := range d.names {
			dotted.add("./"+n, d.files[n])
		}
		extra := []tar.Header{
			{Name: "blobs/", Typeflag: tar.TypeDir, Mode: 0o755},
			{Name: "blobs/sha256/" + strings.Repeat("0", 64), Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
			{Name: strings.Repeat("long/", 30) + "name", Typeflag: tar.TypeReg},
		}
		o, _ := options(t)
		for _, ref := range []string{
			"oci:" + file(t, "layout.TAR", d.archive(t, format)),
			"oci-archive:" + file(t, "layout", dotted.archive(t, tar.FormatPAX, extra...)),
		} {
			image := open(t, ref+":latest", o)
			require.Equal(t, random(5000), read(t, image, image.Layers()[0]), name)
		}
	}
}

// TestLinksInALayout: nothing outside of it is read, and nothing but files.
func TestLinksInALayout(t *testing.T) {
	content := []byte("layer")
	blob := "blobs/sha256/" + digest.FromBytes(content).Encoded()
	for name, c := range map[string]struct {
		make   func(path string) error
		reason string
	}{
		"link out":       {func(path string) error { return os.Symlink("/etc/passwd", path) }, "SourceRefused"},
		"relative link":  {func(path string) error { return os.Symlink("../../../x", path) }, "SourceRefused"},
		"pipe":           {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "UnsafeImage"},
		"directory":      {func(path string) error { return os.Mkdir(path, 0o700) }, "UnsafeImage"},
		"not there":      {func(string) error { return nil }, "NotFound"},
		"link within it": {func(path string) error { return os.Symlink("../../oci-layout", path) }, "DigestMismatch"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := draw(t, content, plan{}).directory(t)
			path := filepath.Join(dir, filepath.FromSlash(blob))
			require.NoError(t, os.Remove(path))
			require.NoError(t, c.make(path))
			o, _ := options(t)
			image := open(t, "oci:"+dir, o)
			_, err := image.Blob(t.Context(), image.Layers()[0])
			requireReason(t, err, c.reason)
		})
	}
}

func TestPlacesWithoutALayout(t *testing.T) {
	o, _ := options(t)
	failure(t, "oci:"+filepath.Join(t.TempDir(), "gone"), o, "NotFound")
	failure(t, "oci:"+filepath.Join(t.TempDir(), "gone.tar"), o, "NotFound")
	failure(t, "oci:"+t.TempDir(), o, "NotFound")
	failure(t, "oci-archive:"+t.TempDir(), o, "SourceRefused")
	failure(t, "oci:"+file(t, "layout", nil), o, "SourceRefused")
}

// TestLayoutThatChanges is written to while it is read.
func TestLayoutThatChanges(t *testing.T) {
	content := random(mib)
	dir := draw(t, content, plan{}).directory(t)
	o, _ := options(t)
	image := open(t, "oci:"+dir, o)
	b, err := image.Blob(t.Context(), image.Layers()[0])
	require.NoError(t, err)
	_, err = b.Read(t.Context(), make([]byte, 100))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(dir, "blobs", "sha256", digest.FromBytes(content).Encoded()), mib/2))
	_, err = readAll(t.Context(), b)
	requireReason(t, err, "SourceUnstable")
	var again interface{ StartOver() bool }
	require.ErrorAs(t, err, &again)
	require.True(t, again.StartOver())
	require.NoError(t, b.Close())
}
