// Package registry finds the image that a reference names, in a registry or in an OCI layout on
// disk, and opens its blobs.
//
// Its caller opens the image, looks at its Layers, and gives each to pkg/layer with a function
// that opens its blob:
//
//	credentials, err := registry.ReadCredentials(secretDir)
//	image, err := registry.Open(ctx, reference, registry.Options{Platform: …, Credentials: credentials, …})
//	for _, l := range image.Layers() {
//		open := func(ctx context.Context) (layer.Blob, error) { return image.Blob(ctx, l) }
//		… layer.Layer{Name: l.Digest, MediaType: l.MediaType, Size: l.Size, Digest: l.Digest, Open: open}
//	}
//	image.Close() // after the last blob was closed
//
// A Blob has every method of an importer.Source, so that an artifact's only layer can be one as
// it is. Manifests are compared with their digest here; the bytes of a blob are not: whoever
// reads one to its end compares them with Layer.Digest. Only its size is compared at once, as far
// as the registry tells it.
//
// Manifests, tokens and blobs all come through pkg/source: the same retries and waits, the same
// proxies and certificates, and redirects that take no secret along. Mirrors, blocked and
// insecure registries are those of registries.conf, signatures are wanted as policy.json says;
// both are read by containers/image.
//
// Probe tells which image that would be, for a poll: by the same endpoints, logins and choice of
// the platform, mostly with one HEAD.
package registry

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/source"
)

// Options says how to reach an image.
type Options struct {
	// Platform is the one to choose out of an index: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT.
	// Empty means that of this machine.
	Platform string
	// Credentials go to the registries they are for, and to the token servers these name.
	Credentials Credentials
	// CADir is a directory for source.ReadCAs, empty for the system's certificates alone.
	CADir string
	// ConfigDir holds registries.conf, registries.conf.d, registries.d and policy.json, each of
	// which may be missing. Empty means /etc/containers.
	ConfigDir string
	// Digest is that of the manifest or the index that must be found, for example
	// "sha256:…". A tag that has moved since does not matter. Empty means any.
	Digest string
	// Connections is how many may be open at once for one blob. 0 means 4.
	Connections int
	// Notice is told, for people, about waits and retries: one call at a time, from any
	// goroutine. May be nil.
	Notice func(message string)
	// Clock, AfterFunc, Jitter and the timeouts are those of source.Options.
	Clock                       source.Clock
	AfterFunc                   func(d time.Duration, f func()) source.Timer
	Jitter                      func() float64
	HeaderTimeout, StallTimeout time.Duration
}

// Blob is one open blob. See source.Image.
type Blob = source.Image

// Layer is one layer of an image, or one file of an artifact.
type Layer struct {
	// Digest of the blob as it is stored: sha256 or sha512.
	Digest string
	// MediaType is what the manifest claims.
	MediaType string
	// Size of the blob in bytes.
	Size int64
	// Title is the file name that an artifact gives, empty for none. It is no path to write to.
	Title       string
	Annotations map[string]string

	// foreign tells that the manifest names other servers for the blob. They are never asked.
	foreign bool
}

// Image is one image for one platform.
type Image struct {
	name   string
	store  store
	chosen chosen
}

// store is where manifests and blobs lie.
type store interface {
	blob(ctx context.Context, l Layer) (Blob, error)
	close() error
}

// Open finds the image that ref names and reads its manifest:
//   - docker://HOST[:PORT]/NAME[:TAG][@DIGEST] in a registry; a digest wins over a tag;
//   - oci:PATH[:TAG][@DIGEST] in an OCI layout, a directory or a .tar file of one; @ and a number
//     choose by the position in index.json. oci-archive:FILE is the same for a file of any name.
//
// A tag is looked up once, and all that follows is asked for by digest. The reasons of errors are
// those above, and those of pkg/source and pkg/format/refusal.
func Open(ctx context.Context, ref string, o Options) (*Image, error) {
	platform, err := parsePlatform(o.Platform)
	if err != nil {
		return nil, err
	}
	pin, err := parsePin(o.Digest)
	if err != nil {
		return nil, err
	}
	scheme, rest, _ := strings.Cut(ref, ":")
	switch scheme {
	case "docker":
		return openRemote(ctx, rest, platform, pin, o.withDefaults())
	case "oci", "oci-archive":
		return openLayout(ctx, scheme, rest, platform, pin, o.withDefaults())
	}
	return nil, fail(source.SourceRefused, "opening source: the scheme %.40q is not supported: use docker://HOST/NAME or oci:PATH", scheme)
}

func (o Options) withDefaults() Options {
	if o.ConfigDir == "" {
		o.ConfigDir = "/etc/containers"
	}
	var telling sync.Mutex
	notice := o.Notice
	o.Notice = func(message string) {
		if notice == nil {
			return
		}
		telling.Lock()
		defer telling.Unlock()
		notice(message)
	}
	if o.Clock == nil {
		o.Clock = source.SystemClock{}
	}
	return o
}

// Name is the image for people.
func (i *Image) Name() string { return i.name }

// Digest is that of the manifest whose layers these are, verified.
func (i *Image) Digest() string { return i.chosen.manifest.digest.String() }

// IndexDigest is that of the index in which the manifest was found, empty without an index.
func (i *Image) IndexDigest() string { return i.chosen.index.String() }

// Platform is what the index says about the manifest, or empty.
func (i *Image) Platform() string { return i.chosen.platform }

// Layers are in the order of the manifest: the lowest one first.
func (i *Image) Layers() []Layer { return i.chosen.layers }

// ConfigMediaType is the media type of the config, as the manifest claims it.
func (i *Image) ConfigMediaType() string { return i.chosen.configMediaType }

// ArtifactType is what the manifest of an artifact says that it is, or empty.
func (i *Image) ArtifactType() string { return i.chosen.artifactType }

// Container tells a container image from an artifact.
func (i *Image) Container() bool { return i.chosen.container() }

// Blob opens the bytes of a layer as they are stored. Several may be open at once.
func (i *Image) Blob(ctx context.Context, l Layer) (Blob, error) {
	b, err := i.store.blob(ctx, l)
	if err != nil {
		if l.foreign && reasonOf(err) == source.NotFound {
			return nil, fail(refusal.UnsupportedFormat, "the layer %s of %s is not in the registry, and the other servers that the manifest names are never asked: push the image with all its layers", l.Digest, i.name)
		}
		return nil, err
	}
	if size := b.Size(); size >= 0 && size != l.Size {
		return nil, closeAfter(b, fail(refusal.DigestMismatch, "the layer %s of %s has %d bytes and must have %d: push the image again", l.Digest, i.name, size, l.Size))
	}
	return b, nil
}

// Close frees what the image holds. Blobs must be closed before.
func (i *Image) Close() error { return i.store.close() }
