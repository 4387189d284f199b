package registry

import (
	"context"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/manifest"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/gild-project/gild/pkg/source"
)

// Probed is the image that a reference leads to.
type Probed struct {
	// Digest is that of the manifest for the platform: what Image.Digest would be.
	Digest string
	// Index is the digest of the index in which it was found, empty without an index.
	Index string
}

// Probe finds the image that a docker:// reference means for Options.Platform, as Open does, and
// opens no blob. known is what an earlier probe of the same reference and platform has found, or
// zero: while its index stays, so does the image.
//
// A HEAD of the manifest is enough unless an index has changed, or the registry does not tell the
// digest: then the manifests are read, compared with their digests and chosen from by the code of
// Open. Faults that may pass are met by three tries for each registry; ctx bounds it all.
// policy.json is for the import, and Options.Digest does not count.
func Probe(ctx context.Context, ref string, known Probed, o Options) (Probed, error) {
	platform, err := parsePlatform(o.Platform)
	if err != nil {
		return Probed{}, err
	}
	rest, found := strings.CutPrefix(ref, "docker:")
	if !found {
		return Probed{}, fail(source.SourceRefused, "probing source: only a registry can be asked, as docker://HOST/NAME")
	}
	named, err := parseRemote(rest)
	if err != nil {
		return Probed{}, err
	}
	endpoints, err := findEndpoints(named, o.withDefaults())
	if err != nil {
		return Probed{}, err
	}
	r := &remote{endpoints: endpoints, tries: mirrorTries}
	name := "docker://" + shorten(named.String())
	top, index, err := r.head(ctx, named)
	switch {
	case err != nil:
		return Probed{}, fmt.Errorf("probing %s: %w", name, err)
	case top != "" && !index:
		return Probed{Digest: top.String()}, nil
	case top != "" && top.String() == known.Index:
		return known, nil
	}
	d, err := r.top(ctx, named)
	if err != nil {
		return Probed{}, fmt.Errorf("probing %s: %w", name, err)
	}
	c, err := r.choose(ctx, name, d, platform)
	if err != nil {
		return Probed{}, err
	}
	return Probed{Digest: c.manifest.digest.String(), Index: c.index.String()}, nil
}

// head returns the digest of the manifest that a reference names, and whether that is an index.
// The digest is empty when only the manifest itself can tell.
func (r *remote) head(ctx context.Context, named reference.Named) (d digest.Digest, index bool, err error) {
	ref, want := asked(named)
	var h http.Header
	err = r.first(ctx, func(e *endpoint, tries int) (err error) {
		h, err = e.manifestHead(ctx, ref, tries)
		return err
	})
	switch reasonOf(err) {
	case source.NotFound, source.SourceRefused:
		return "", false, nil // not every registry knows HEAD, or knows it well
	}
	if err != nil {
		return "", false, err
	}
	d = digest.Digest(h.Get("Docker-Content-Digest"))
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	index = manifest.MIMETypeIsMultiImage(mediaType)
	single := mediaType == imgspec.MediaTypeImageManifest || mediaType == manifest.DockerV2Schema2MediaType
	told := checkDigest(d) == nil && (d == want || want == "" && d.Algorithm() == digest.Canonical)
	if !told || !index && !single {
		return "", false, nil
	}
	return d, index, nil
}
