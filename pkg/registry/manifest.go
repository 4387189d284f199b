package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gild-project/gild/pkg/format/refusal"
)

const (
	// maxManifest is the limit of the registries themselves, in bytes.
	maxManifest = 4 << 20
	// maxMarks bounds the objects, lists and members in a manifest, whose memory is many times
	// that of their text.
	maxMarks = 1 << 16
	// maxDepth bounds indexes in indexes.
	maxDepth = 4
	// maxLayers is far above what any tool makes.
	maxLayers = 4096
)

// accepted are the manifests that are asked for. The old schema 1 is there so that an image of
// it is refused with its name and not with 404.
func accepted() []string {
	return []string{
		imgspec.MediaTypeImageManifest, imgspec.MediaTypeImageIndex, manifest.DockerV2Schema2MediaType,
		manifest.DockerV2ListMediaType, manifest.DockerV2Schema1SignedMediaType, manifest.DockerV2Schema1MediaType,
	}
}

// document is one manifest or index as it is stored.
type document struct {
	raw       []byte
	mediaType string
	digest    digest.Digest
}

// newDocument compares raw with want, which may be empty. contentType is what the registry
// claims, if it does.
func newDocument(raw []byte, contentType string, want digest.Digest) (document, error) {
	if len(raw) > maxManifest {
		return document{}, tooLarge()
	}
	marks := 0
	for _, b := range raw {
		if b == '{' || b == '[' || b == ',' {
			marks++
		}
	}
	if marks > maxMarks {
		return document{}, refusal.New(refusal.UnsafeImage, fmt.Sprintf("the manifest has %d objects and members, more than the %d that are read", marks, maxMarks))
	}
	d := document{raw: raw}
	d.mediaType, _, _ = mime.ParseMediaType(contentType)
	if !slices.Contains(accepted(), d.mediaType) {
		d.mediaType = manifest.GuessMIMEType(raw)
	}
	if d.mediaType == manifest.DockerV2Schema1MediaType || d.mediaType == manifest.DockerV2Schema1SignedMediaType {
		return document{}, refusal.New(refusal.UnsupportedFormat, "the manifest is of the old docker schema 1, which is not supported: push the image again with a tool of today")
	}
	if want == "" {
		d.digest = digest.Canonical.FromBytes(raw)
		return d, nil
	}
	if err := checkDigest(want); err != nil {
		return document{}, err
	}
	if d.digest = want.Algorithm().FromBytes(raw); d.digest != want {
		return document{}, fail(refusal.DigestMismatch, "a manifest has the digest %s and must have %s: the store, or something on the way, changes it", d.digest, want)
	}
	return d, nil
}

func tooLarge() error {
	return refusal.New(refusal.UnsafeImage, fmt.Sprintf("the manifest has more than the %d bytes that are read", maxManifest))
}

// chosen is the manifest of one platform, and the way to it.
type chosen struct {
	manifest document
	// index is the digest of the topmost index, empty without one.
	index    digest.Digest
	platform string

	layers          []Layer
	configMediaType string
	artifactType    string
}

func (c chosen) container() bool {
	return c.artifactType == "" && (c.configMediaType == imgspec.MediaTypeImageConfig || c.configMediaType == manifest.DockerV2Schema2ConfigMediaType)
}

// has tells whether d is the digest of the manifest or of its index.
func (c chosen) has(d digest.Digest) bool { return d == c.manifest.digest || d == c.index }

// choose follows indexes from top to the manifest of a platform. fetch gets a manifest by its
// digest.
func choose(ctx context.Context, name string, top document, p platform, fetch func(ctx context.Context, d digest.Digest) ([]byte, string, error)) (chosen, error) {
	c := chosen{}
	here := top
	for range maxDepth {
		if !manifest.MIMETypeIsMultiImage(here.mediaType) {
			c.manifest = here
			return c, c.read(name)
		}
		if c.index == "" {
			c.index = top.digest
		}
		next, offered, err := pick(name, here, p)
		if err != nil {
			return chosen{}, err
		}
		raw, contentType, err := fetch(ctx, next)
		if err != nil {
			return chosen{}, fmt.Errorf("getting the manifest for %s: %w", offered, err)
		}
		if here, err = newDocument(raw, contentType, next); err != nil {
			return chosen{}, fmt.Errorf("reading the manifest for %s of %s: %w", offered, name, err)
		}
		c.platform = offered
	}
	return chosen{}, refusal.New(refusal.UnsafeImage, fmt.Sprintf("%s has more than %d indexes in one another", name, maxDepth-1))
}

// pick returns the digest that an index has for a platform, and the platform as the index
// writes it.
func pick(name string, index document, p platform) (digest.Digest, string, error) {
	list, err := manifest.ListFromBlob(index.raw, index.mediaType)
	if err != nil {
		// The error repeats the whole index.
		return "", "", refusal.New(refusal.CorruptImage, name+" has an index that cannot be read: push the image again")
	}
	// Both kinds of index write platforms in the same way.
	var entries imgspec.Index
	if json.Unmarshal(index.raw, &entries) != nil {
		return "", "", refusal.New(refusal.CorruptImage, name+" has an index that cannot be read: push the image again")
	}
	return pickFrom(name, list, entries.Manifests, p)
}

// pickFrom is pick for a list whose entries are known.
func pickFrom(name string, list manifest.List, entries []imgspec.Descriptor, p platform) (digest.Digest, string, error) {
	var offers []string
	for _, e := range entries {
		if e.Platform == nil {
			continue
		}
		if text := platformText(e.Platform); !slices.Contains(offers, text) && !strings.HasPrefix(text, "unknown/") {
			offers = append(offers, text)
		}
	}
	d, err := list.ChooseInstance(&types.SystemContext{OSChoice: p.os, ArchitectureChoice: p.architecture, VariantChoice: p.variant})
	if err != nil {
		const most = 20
		shown := strings.Join(offers[:min(len(offers), most)], ", ")
		if len(offers) > most {
			shown += ", …"
		}
		if shown == "" {
			shown = "none"
		}
		return "", "", fail(PlatformNotFound, "%s has no image for %s: it has %s", name, wanted(p), shorten(shown))
	}
	if err := checkDigest(d); err != nil {
		return "", "", refusal.By(refusal.CorruptImage, "reading the index of "+name, err)
	}
	instance, err := list.Instance(d)
	if err != nil {
		return "", "", refusal.New(refusal.CorruptImage, name+" has an index that contradicts itself")
	}
	if instance.ReadOnly.Platform == nil {
		return d, "", nil
	}
	return d, platformText(instance.ReadOnly.Platform), nil
}

func wanted(p platform) string {
	if p == (platform{}) {
		return "the platform of this machine"
	}
	return platformText(&imgspec.Platform{OS: p.os, Architecture: p.architecture, Variant: p.variant})
}

func platformText(p *imgspec.Platform) string {
	text := fmt.Sprintf("%.20s/%.20s", p.OS, p.Architecture)
	if p.Variant != "" {
		text += fmt.Sprintf("/%.20s", p.Variant)
	}
	return text
}

// read takes the layers out of the manifest.
func (c *chosen) read(name string) error {
	var layers []imgspec.Descriptor
	switch c.manifest.mediaType {
	case manifest.DockerV2Schema2MediaType:
		m, err := manifest.Schema2FromManifest(c.manifest.raw)
		if err != nil {
			return unreadable(name)
		}
		c.configMediaType = m.ConfigDescriptor.MediaType
		for _, l := range m.LayersDescriptors {
			layers = append(layers, imgspec.Descriptor{MediaType: l.MediaType, Digest: l.Digest, Size: l.Size, URLs: l.URLs})
		}
	case imgspec.MediaTypeImageManifest:
		m, err := manifest.OCI1FromManifest(c.manifest.raw)
		if err != nil {
			return unreadable(name)
		}
		c.configMediaType, c.artifactType, layers = m.Config.MediaType, m.ArtifactType, m.Layers
	default:
		return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf("%s is no image: its manifest has the media type %.100q", name, c.manifest.mediaType))
	}
	if len(layers) > maxLayers {
		return refusal.New(refusal.UnsafeImage, fmt.Sprintf("%s has %d layers, more than the %d that are read", name, len(layers), maxLayers))
	}
	for n, l := range layers {
		if err := checkDigest(l.Digest); err != nil {
			e, _ := asReasoned(err)
			return refusal.By(e.Reason(), fmt.Sprintf("reading layer %d of %s", n, name), err)
		}
		if l.Size < 0 {
			return refusal.New(refusal.CorruptImage, fmt.Sprintf("layer %d of %s has a negative size", n, name))
		}
		c.layers = append(c.layers, Layer{
			Digest: string(l.Digest), MediaType: l.MediaType, Size: l.Size, Annotations: l.Annotations,
			Title: l.Annotations[imgspec.AnnotationTitle], foreign: len(l.URLs) > 0 || foreign(l.MediaType),
		})
	}
	return nil
}

func unreadable(name string) error {
	return refusal.New(refusal.CorruptImage, name+" has a manifest that cannot be read: push the image again")
}

// foreign tells the media types of layers that registries need not have.
func foreign(mediaType string) bool {
	return strings.Contains(mediaType, ".nondistributable.") || strings.Contains(mediaType, ".foreign.")
}
