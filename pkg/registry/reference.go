package registry

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/opencontainers/go-digest"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/source"
)

// parseRemote reads what follows "docker:". The name must begin with a host: what a short name
// means would depend on the machine.
func parseRemote(rest string) (reference.Named, error) {
	text, found := strings.CutPrefix(rest, "//")
	if !found {
		return nil, fail(source.SourceRefused, "opening source: write docker://HOST/NAME")
	}
	host, _, found := strings.Cut(text, "/")
	if strings.Contains(host, "@") {
		return nil, fail(source.SourceRefused, "opening source: a reference holds no user and no password: give them as a secret")
	}
	if !found || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return nil, fail(source.SourceRefused, "opening source: docker://%.200s does not begin with the host of a registry: write docker://HOST/NAME", text)
	}
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, failBy(source.SourceRefused, "opening source: docker://"+shorten(text), err)
	}
	canonical, found := named.(reference.Canonical)
	if !found {
		return reference.TagNameOnly(named), nil
	}
	if err := checkDigest(canonical.Digest()); err != nil {
		return nil, failBy(source.SourceRefused, "opening source: docker://"+shorten(text), err)
	}
	// A digest wins over a tag, as it does for docker.
	return reference.WithDigest(reference.TrimNamed(named), canonical.Digest())
}

// corner says where an image lies on disk.
type corner struct {
	path    string
	archive bool
	// tag, digest and position choose one out of index.json; all empty (position -1) when there
	// is only one.
	tag      string
	digest   digest.Digest
	position int
}

// parseCorner reads what follows "oci:" or "oci-archive:".
func parseCorner(scheme, rest string) (corner, error) {
	c := corner{position: -1}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		suffix := rest[at+1:]
		if n, err := strconv.ParseUint(suffix, 10, 31); err == nil {
			c.position, rest = int(n), strings.TrimSuffix(rest[:at], ":")
		} else if strings.Contains(suffix, ":") {
			c.digest, rest = digest.Digest(suffix), strings.TrimSuffix(rest[:at], ":")
			if err := checkDigest(c.digest); err != nil {
				return corner{}, failBy(source.SourceRefused, "opening source", err)
			}
		}
	}
	// As for other tools, a colon ends the path.
	c.path, c.tag, _ = strings.Cut(rest, ":")
	if c.path == "" || strings.ContainsRune(c.path, 0) {
		return corner{}, fail(source.SourceRefused, "opening source: write %s:PATH", scheme)
	}
	c.archive = scheme == "oci-archive" || strings.EqualFold(filepath.Ext(c.path), ".tar")
	return c, nil
}

// String is the corner for people.
func (c corner) String() string {
	text := "oci:" + shorten(c.path)
	if c.tag != "" {
		text += ":" + shorten(c.tag)
	}
	return text
}

// checkDigest refuses algorithms that do not bind content any more, and those nobody computes.
func checkDigest(d digest.Digest) error {
	algorithm, encoded, _ := strings.Cut(string(d), ":")
	length := map[string]int{"sha256": 64, "sha512": 128}[algorithm]
	if length == 0 {
		return fail(refusal.UnsupportedFormat, "the digest algorithm %.20q is not supported: use sha256 or sha512", algorithm)
	}
	if len(encoded) != length || strings.Trim(encoded, "0123456789abcdef") != "" {
		return fail(refusal.CorruptImage, "%.80q is no digest", string(d))
	}
	return nil
}

// parsePin reads Options.Digest.
func parsePin(text string) (digest.Digest, error) {
	if text == "" {
		return "", nil
	}
	if err := checkDigest(digest.Digest(text)); err != nil {
		return "", failBy(invalidOptions, "reading the pinned digest", err)
	}
	return digest.Digest(text), nil
}

// platform is what to choose out of an index; all empty for this machine.
type platform struct{ os, architecture, variant string }

func parsePlatform(text string) (platform, error) {
	if text == "" {
		return platform{}, nil
	}
	match := regexp.MustCompile(`^([a-z0-9]+)/([a-z0-9]+)(?:/([a-z0-9.]+))?$`).FindStringSubmatch(text)
	if match == nil {
		return platform{}, fail(invalidOptions, "the platform %.60q is not of the form os/architecture or os/architecture/variant, for example linux/arm64", text)
	}
	return platform{match[1], match[2], match[3]}, nil
}

// shorten keeps a message readable.
func shorten(text string) string {
	const limit = 200
	if len(text) > limit {
		return text[:limit] + "…"
	}
	return text
}
