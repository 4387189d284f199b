//go:build containers_image_openpgp

package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/image/v5/docker"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/image"
	ociarchive "github.com/containers/image/v5/oci/archive"
	ocilayout "github.com/containers/image/v5/oci/layout"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/source"
)

// verifyRemote asks policy.json whether an image of a registry may be used. containers/image
// gets the signatures, and the manifest once more: it must be the very one that was chosen.
func verifyRemote(ctx context.Context, name string, named reference.Named, endpoints []*endpoint, c chosen, o Options) error {
	path, err := policyFile(o)
	if path == "" || err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gild-registry-")
	if err != nil {
		return failBy(refusal.InternalError, "verifying "+name+": making a directory for the certificates: the importer needs a writable /tmp for this", plainPath(err))
	}
	defer func() { _ = os.RemoveAll(dir) }() // it holds copies only
	system, err := verifyingContext(dir, endpoints, o)
	if err != nil {
		return err
	}
	ref, err := docker.NewReference(named)
	if err != nil {
		return failBy(source.SourceRefused, "verifying "+name, err)
	}
	from, err := ref.NewImageSource(ctx, system)
	if err != nil {
		return unverified(ctx, name, err)
	}
	var instance *digest.Digest
	if c.index != "" {
		instance = &c.manifest.digest
	}
	return closed(from, verify(ctx, name, path, image.UnparsedInstance(from, instance), c, o))
}

// verifyLocal does the same for an OCI layout, which holds no signatures.
func verifyLocal(ctx context.Context, name string, at corner, c chosen, o Options) error {
	path, err := policyFile(o)
	if path == "" || err != nil {
		return err
	}
	newReference := ocilayout.NewReference
	if at.archive {
		newReference = ociarchive.NewReference
	}
	ref, err := newReference(at.path, at.tag)
	if err != nil {
		return failBy(source.SourceRefused, "verifying "+name, err)
	}
	return verify(ctx, name, path, image.UnparsedInstance(stored{ref: ref, document: c.manifest}, nil), c, o)
}

// verify judges one image by the policy.
func verify(ctx context.Context, name, path string, unparsed types.UnparsedImage, c chosen, o Options) (err error) {
	raw, _, err := unparsed.Manifest(ctx)
	if err != nil {
		return unverified(ctx, name, err)
	}
	if !bytes.Equal(raw, c.manifest.raw) {
		return fail(source.SourceUnstable, "%s was moved to another image while its signatures were asked for", name)
	}
	policy, err := signature.NewPolicyFromFile(path)
	if err != nil {
		return failBy(invalidOptions, "reading policy.json", err)
	}
	judge, err := signature.NewPolicyContext(policy)
	if err != nil {
		return failBy(invalidOptions, "reading policy.json", err)
	}
	defer func() {
		if closing := judge.Destroy(); err == nil && closing != nil {
			err = failBy(refusal.InternalError, "verifying "+name, closing)
		}
	}()
	allowed, err := judge.IsRunningImageAllowed(ctx, unparsed)
	switch {
	case allowed && err == nil:
		o.Notice(fmt.Sprintf("%s is allowed by policy.json: manifest %s", name, c.manifest.digest))
		return nil
	case err != nil:
		return unverified(ctx, name, err)
	}
	return fail(SignatureRejected, "%s is not allowed by policy.json", name)
}

// unverified gives an error of containers/image its reason. What is of the network may pass, and a
// key that is not there is no fault of the image; all else is a signature that is missing or wrong.
func unverified(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var status docker.UnexpectedHTTPStatusError
	at := "getting the signatures of " + name
	switch {
	case errors.As(err, new(docker.ErrUnauthorizedForCredentials)):
		return failBy(source.AuthenticationFailed, at, err)
	case errors.As(err, &status) && status.StatusCode >= http.StatusInternalServerError:
		return failBy(source.ServerError, at, err)
	case errors.Is(err, docker.ErrTooManyRequests):
		return failBy(source.TooManyRequests, at, err)
	case errors.As(err, new(*os.PathError)):
		return failBy(invalidOptions, "reading what policy.json names", err)
	case isNetwork(err):
		return failBy(source.ConnectionFailed, at, err)
	}
	return failBy(SignatureRejected, name+" is not allowed by policy.json: sign it, or change the policy", err)
}

// isNetwork tells what another try may mend.
func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network) && !errors.As(err, new(*tls.CertificateVerificationError)) || errors.Is(err, io.ErrUnexpectedEOF)
}

// verifyingContext writes what containers/image reads from files only: certificates, by the
// ending of their names, and secrets, which it then sends to the registry they are for.
func verifyingContext(dir string, endpoints []*endpoint, o Options) (*types.SystemContext, error) {
	system := systemContext(o)
	failed := func(err error) error {
		return failBy(refusal.InternalError, "verifying signatures: writing for containers/image", plainPath(err))
	}
	system.AuthFilePath = filepath.Join(dir, "auth.json")
	entries := map[string]map[string]string{}
	for _, e := range endpoints {
		if encoded, found := strings.CutPrefix(e.authorization, "Basic "); found {
			entries[e.named.Name()] = map[string]string{"auth": encoded}
		} else if token, found := strings.CutPrefix(e.authorization, "Bearer "); found && len(endpoints) == 1 {
			system.DockerBearerRegistryToken = token
		}
	}
	content, err := json.Marshal(map[string]any{"auths": entries})
	if err != nil {
		return nil, failed(err)
	}
	if err := os.WriteFile(system.AuthFilePath, content, 0o600); err != nil {
		return nil, failed(err)
	}
	system.DockerCertPath = filepath.Join(dir, "certificates")
	if err := os.Mkdir(system.DockerCertPath, 0o700); err != nil || o.CADir == "" {
		return system, err
	}
	files, err := os.ReadDir(o.CADir)
	if err != nil {
		return nil, failed(err)
	}
	for n, file := range files {
		// Kubernetes keeps the real files in ..data and links to them.
		if strings.HasPrefix(file.Name(), "..") {
			continue
		}
		from, err := filepath.Abs(filepath.Join(o.CADir, file.Name()))
		if err != nil {
			return nil, failed(err)
		}
		if err := os.Symlink(from, filepath.Join(system.DockerCertPath, fmt.Sprintf("%d.crt", n))); err != nil {
			return nil, failed(err)
		}
	}
	return system, nil
}

// stored gives containers/image a manifest that was read already.
type stored struct {
	ref      types.ImageReference
	document document
}

var _ types.ImageSource = stored{}

// Reference implements types.ImageSource.
func (s stored) Reference() types.ImageReference { return s.ref }

// Close implements types.ImageSource.
func (stored) Close() error { return nil }

// GetManifest implements types.ImageSource.
func (s stored) GetManifest(context.Context, *digest.Digest) ([]byte, string, error) {
	return s.document.raw, s.document.mediaType, nil
}

// GetBlob implements types.ImageSource.
func (stored) GetBlob(context.Context, types.BlobInfo, types.BlobInfoCache) (io.ReadCloser, int64, error) {
	return nil, 0, errors.New("blobs are not read to judge an image")
}

// HasThreadSafeGetBlob implements types.ImageSource.
func (stored) HasThreadSafeGetBlob() bool { return false }

// GetSignatures implements types.ImageSource.
func (stored) GetSignatures(context.Context, *digest.Digest) ([][]byte, error) { return nil, nil }

// LayerInfosForCopy implements types.ImageSource.
func (stored) LayerInfosForCopy(context.Context, *digest.Digest) ([]types.BlobInfo, error) {
	return nil, nil
}
