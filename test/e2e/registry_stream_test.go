//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// streamKindName is the name of OpenShift's kind, streamKind the kind as far as an import reads it.
const streamKindName = "imagestreams.image.openshift.io"

const streamKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: ` + streamKindName + `
  annotations: {api-approved.kubernetes.io: "unapproved, a test"}
spec:
  group: image.openshift.io
  names: {kind: ImageStream, plural: imagestreams, singular: imagestream}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// stream is an image stream whose tag has named two images, the newest first.
const stream = `
apiVersion: image.openshift.io/v1
kind: ImageStream
metadata: {name: %s}
status:
  tags:
  - tag: %q
    items:
    - {dockerImageReference: %q}
    - {dockerImageReference: "registry.invalid/old@sha256:0000000000000000000000000000000000000000000000000000000000000000"}
`

// ofStream names a tag of an image stream in place of a URL.
func ofStream(spec *v1alpha1.VMDiskImageSpec) {
	spec.Source.Registry.URL, spec.Source.Registry.ImageStream = "", "debian:12"
}

// TestResolvesImageStreams imports from one, on a cluster that first has no such thing.
func TestResolvesImageStreams(t *testing.T) {
	f := start(t)
	f.NeedsTestCluster("a cluster that is not OpenShift")
	f.RegistryImage("image", "", ofStream)
	c := f.Claim("without", "image", block)
	imp := f.WaitImport(c, "failure", importWithin, func(imp *v1alpha1.VMDiskImport) bool {
		return imp.Status.Phase == v1alpha1.PhaseFailed
	})
	require.Equal(t, "ImageStreamUnsupported", ready(imp).Reason)
	f.WaitEvent(c, "ImportFailed", "ImageStreamUnsupported")
	f.RequireNothingLeft(c)

	f.define(streamKind, streamKindName)
	c = f.Claim("disk", "image", block)
	f.RequireWaiting(c, "ImageStreamNotFound")
	p := f.Push("disk", f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
	named := strings.TrimPrefix(p.ByDigest(tlsPort), "docker://")
	f.apply(fmt.Sprintf(stream, "debian", "12", named))
	imp = f.RequireBound(c)
	require.Equal(t, named, imp.Status.ResolvedReference)
	require.Equal(t, p.digest, imp.Status.Result.Digest)
	f.RequireDisk(c, f.Disk(diskSize))
	f.RequireNothingLeft(c)
}

// define has the cluster know a kind that is not ours until the test ends.
func (f *fixture) define(kind, name string) {
	f.Helper()
	f.apply(kind)
	f.Cleanup(func() {
		_, err := f.kubectl(context.WithoutCancel(f.ctx), "delete", "crd", name)
		require.NoError(f, err)
	})
	f.Kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd/"+name)
}

// apply applies a manifest in the test's namespace.
func (f *fixture) apply(text string) {
	f.Helper()
	path := filepath.Join(f.TempDir(), "manifest.yaml")
	require.NoError(f, os.WriteFile(path, []byte(text), 0o600))
	f.Kubectl("apply", "--filename", path)
}
