package poller

import (
	"context"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// Prober asks sources. An error with methods Reason() string and RetryAfter() time.Duration says
// why a source did not answer, in the words of the importer, and when to come back; its text holds
// no secret and no URL query.
type Prober interface {
	// ProbeHTTP finds the state of a file, without its bytes.
	ProbeHTTP(ctx context.Context, r HTTPRequest) (HTTPFound, error)
	// PublishedChecksum finds the checksum of a file in a file that publishes it: sha256: or
	// sha512: and lower-case hex digits. The request's URL is that of the published file.
	PublishedChecksum(ctx context.Context, r HTTPRequest, file string) (checksum string, err error)
	// ProbeImage finds the digest of an image for one platform, without its layers.
	ProbeImage(ctx context.Context, r ImageRequest) (ImageFound, error)
}

// Access is what a source is asked with, as plain data.
type Access struct {
	// Secret has the keys of the importer's --secret-dir: username and password, accessKeyId and
	// secretKey, token, .dockerconfigjson, and headers.<n> for lines "Name: value".
	Secret map[string][]byte
	// CAs are PEM files by name; nil for the system's certificates alone.
	CAs map[string][]byte
}

// HTTPRequest asks a web server.
type HTTPRequest struct {
	Access
	URL string
	// Known makes the request conditional: the validators of the last state that was imported.
	Known v1alpha1.Pin
	// Fresh has the server asked as an import asks it, by GET and unconditionally. Known is empty then.
	Fresh bool
}

// HTTPFound is what a web server tells of a file.
type HTTPFound struct {
	// NotModified tells that it is still HTTPRequest.Known.
	NotModified bool
	// Pin has what the server tells, with NotModified maybe nothing.
	Pin v1alpha1.Pin
}

// ImageRequest asks a registry.
type ImageRequest struct {
	Access
	// Reference is docker://host/name[:tag][@digest].
	Reference string
	// Platform is os/architecture, empty for that of the prober.
	Platform string
	// KnownDigest and KnownIndex are what the same name led to before, empty for nothing: while
	// the index stays, so does the image.
	KnownDigest, KnownIndex string
}

// ImageFound is what a registry tells of an image.
type ImageFound struct {
	// Digest is that of the manifest for the platform, Index that of the index which led to it, if any.
	Digest, Index string
}
