package poller

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// dockerScheme begins the URL of an image in a registry.
const dockerScheme = "docker://"

// The bounds of v1alpha1.Pin. A longer header is as good as none.
const (
	maxETag         = 1024
	maxLastModified = 128
)

// diskSource is the source of a cron's template as an import takes it: a web server or a
// registry. image is the one that the source's image stream names, empty without one.
func diskSource(source *cdiv1.DataVolumeSource, image string) (*v1alpha1.DiskSource, error) {
	switch {
	case source == nil:
	case source.HTTP != nil:
		if err := checkURL(source.HTTP.URL); err != nil {
			return nil, err
		}
		return &v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{
			URL: source.HTTP.URL, SecretRef: source.HTTP.SecretRef, CertConfigMap: source.HTTP.CertConfigMap,
			ExtraHeaders: source.HTTP.ExtraHeaders, SecretExtraHeaders: source.HTTP.SecretExtraHeaders,
		}}, nil
	case source.Registry != nil:
		return registrySource(source.Registry, image)
	}
	return nil, hopeless(reasonIllegalSource, "the template has no source that can be polled: give it http, registry or pvc")
}

func registrySource(registry *cdiv1.DataVolumeSourceRegistry, image string) (*v1alpha1.DiskSource, error) {
	where := dockerScheme + image
	if image == "" {
		where = valueOf(registry.URL)
	}
	reference, ok := strings.CutPrefix(where, dockerScheme)
	if host, name, _ := strings.Cut(reference, "/"); !ok || host == "" || name == "" || strings.Contains(host, "@") {
		return nil, hopeless(reasonIllegalSource, "the url of the registry must be docker://host/name[:tag][@digest]")
	}
	source := &v1alpha1.RegistrySource{
		URL: where, PullMethod: v1alpha1.PullMethod(valueOf(registry.PullMethod)),
		SecretRef: valueOf(registry.SecretRef), CertConfigMap: valueOf(registry.CertConfigMap),
	}
	if registry.Platform != nil && registry.Platform.Architecture != "" {
		source.Platform = &v1alpha1.ImagePlatform{Architecture: registry.Platform.Architecture}
	}
	return &v1alpha1.DiskSource{Registry: source}, nil
}

func valueOf[T ~string](p *T) T {
	if p == nil {
		return ""
	}
	return *p
}

// checkURL reports what is wrong with the URL of a web server. It never repeats it.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return hopeless(reasonIllegalSource, "the url must be an http:// or https:// URL with a host")
	case u.User != nil:
		return hopeless(reasonIllegalSource, "the url must not hold a user name or password: put them in a Secret and name it in secretRef")
	}
	return nil
}

// hostOf is the host that a source is polled at, for the limit per host; empty when only the API
// server is asked.
func hostOf(source *cdiv1.DataVolumeSource) string {
	switch {
	case source == nil:
		return ""
	case source.HTTP != nil:
		if u, err := url.Parse(source.HTTP.URL); err == nil {
			return u.Host
		}
	case source.Registry != nil:
		host, _, _ := strings.Cut(strings.TrimPrefix(valueOf(source.Registry.URL), dockerScheme), "/")
		return host
	}
	return ""
}

// sameServer reports whether two URLs have one scheme, host and port.
func sameServer(a, b string) bool {
	one, err := url.Parse(a)
	if err != nil {
		return false
	}
	other, err := url.Parse(b)
	return err == nil && one.Scheme == other.Scheme && one.Host == other.Host
}

// hasValidator reports whether a server tells one state of a file from another.
func hasValidator(pin *v1alpha1.Pin) bool { return pin.ETag != "" || pin.LastModified != "" }

// bounded is a pin without what is too long to be kept.
func bounded(pin v1alpha1.Pin) v1alpha1.Pin {
	if len(pin.ETag) > maxETag {
		pin.ETag = ""
	}
	if len(pin.LastModified) > maxLastModified {
		pin.LastModified = ""
	}
	return v1alpha1.Pin{ETag: pin.ETag, LastModified: pin.LastModified, Length: pin.Length}
}

// fileRevision is what a poll of a web server has found. published is the checksum that the
// source's publisher tells, wanted that of the template, each empty for none.
func fileRevision(source *v1alpha1.DiskSource, pin v1alpha1.Pin, published, wanted string) (*golden.Revision, error) {
	revision := &golden.Revision{Source: *source, Checksum: wanted, Pin: &pin}
	if wanted == "" {
		revision.Checksum = published
	}
	switch {
	case published != "":
		revision.Digest = checksumDigest(published)
	case hasValidator(&pin):
		revision.Digest = golden.ValidatorDigest(source.HTTP.URL, &pin)
	case wanted != "":
		revision.Digest = checksumDigest(wanted)
	default:
		return nil, hopeless(reasonNoValidator, "the server sends neither ETag nor Last-Modified, so that an update cannot be seen: "+
			"name the published checksum file in the annotation %s, or set the checksum of the source", golden.AnnotationChecksumURL)
	}
	return revision, nil
}

// checksumDigest names a revision by the checksum of its bytes: a sha256 as it is, another one by
// the sha256 of its text.
func checksumDigest(checksum string) string {
	if golden.CheckDigest(checksum) == nil {
		return checksum
	}
	sum := sha256.Sum256([]byte(checksum))
	return golden.PrefixSHA256 + hex.EncodeToString(sum[:])
}

// checksumPattern is what an import can compare.
const checksumPattern = `^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`

// checkChecksum reports what is wrong with the checksum of a template.
func checkChecksum(checksum string) error {
	if checksum == "" {
		return nil
	}
	if ok, err := regexp.MatchString(checksumPattern, checksum); err != nil || !ok {
		return hopeless(reasonIllegalSource, "the checksum of the template must be sha256: or sha512: and lower-case hex digits")
	}
	return nil
}

// fileName is what a file is called in a published checksum file.
func fileName(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return path.Base(u.Path)
}

// sameFile reports whether a revision is the state of a file that a pin tells, at the same URL.
func sameFile(revision *golden.Revision, source *v1alpha1.DiskSource, pin *v1alpha1.Pin) bool {
	return revision != nil && revision.Source.HTTP != nil && source.HTTP != nil && revision.Pin != nil &&
		revision.Source.HTTP.URL == source.HTTP.URL && *revision.Pin == *pin
}

// imageRevision is an image in a registry, named by its digest alone.
func imageRevision(source *v1alpha1.DiskSource, digest, index string) *golden.Revision {
	registry := source.Registry.DeepCopy()
	registry.URL = dockerScheme + nameOf(registry.URL) + "@" + digest
	if registry.PullMethod == v1alpha1.PullMethodNode {
		registry.CertConfigMap = "" // the node has certificates of its own
	}
	return &golden.Revision{Digest: digest, Index: index, Source: v1alpha1.DiskSource{Registry: registry}}
}

// nameOf is host/name of an image, without tag and digest.
func nameOf(where string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(where, dockerScheme), "@")
	if colon := strings.LastIndex(name, ":"); colon > strings.LastIndex(name, "/") {
		name = name[:colon]
	}
	return name
}

// digestOf is the digest in the name of an image; empty without one.
func digestOf(where string) string {
	_, digest, _ := strings.Cut(where, "@")
	return digest
}

// platformOf is the platform that a source asks for, as probes take it; empty for their own.
func platformOf(source *v1alpha1.DiskSource) string {
	if source.Registry == nil || source.Registry.Platform == nil {
		return ""
	}
	return "linux/" + source.Registry.Platform.Architecture
}

// claimRevision is a claim that is copied.
func claimRevision(claim golden.Claim) *golden.Revision {
	return &golden.Revision{Digest: golden.PrefixUID + string(claim.UID), Claim: &claim}
}

// shortDigest is how a message names a revision.
func shortDigest(digest string) string {
	const digits = 12
	prefix, rest, _ := strings.Cut(digest, ":")
	return fmt.Sprintf("%s:%s", prefix, rest[:min(digits, len(rest))])
}
