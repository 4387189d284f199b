//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestWaitsForTheImporterImage sets an importer image that is not in the registry yet.
func TestWaitsForTheImporterImage(t *testing.T) {
	f := start(t)
	f.NeedsTestCluster("a registry that an image can be added to")
	tag := "not-there-before-" + f.run
	old := f.setImporterImage(strings.TrimSuffix(f.image("gild-importer"), f.tag) + tag)
	t.Cleanup(func() { f.setImporterImage(old) })
	img := f.Raw(diskSize)
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	c := f.Claim("disk", "image")
	imp := f.RequireWaiting(c, "ImagePullFailed")
	require.Contains(t, ready(imp).Message, tag)
	f.tagImporterImage(tag)
	f.RequireDone(c, img)
	require.EqualValues(t, 1, f.Import(c).Status.Attempts)
}

// setImporterImage has the populator start importers of another image, and returns the image
// before. It works at the end of a test too.
func (f *fixture) setImporterImage(image string) (old string) {
	f.Helper()
	ctx := context.WithoutCancel(f.ctx)
	f.editPopulator(ctx, func(deployment *appsv1.Deployment) {
		for i := range deployment.Spec.Template.Spec.Containers {
			for j, variable := range deployment.Spec.Template.Spec.Containers[i].Env {
				if variable.Name == "IMPORTER_IMAGE" {
					old = variable.Value
					deployment.Spec.Template.Spec.Containers[i].Env[j] = corev1.EnvVar{Name: variable.Name, Value: image}
				}
			}
		}
	})
	require.NotEmpty(f, old, "the populator's Deployment does not say IMPORTER_IMAGE")
	require.NoError(f, f.waitPopulator(ctx))
	return old
}

// tagImporterImage gives the importer image one more tag in the test cluster's registry.
func (f *fixture) tagImporterImage(tag string) {
	f.Helper()
	host, folder, _ := strings.Cut(f.images, "/")
	url := fmt.Sprintf("http://%s/v2/%s/gild-importer/manifests/", host, folder)
	get, err := http.NewRequestWithContext(f.ctx, http.MethodGet, url+f.tag, nil)
	require.NoError(f, err)
	get.Header["Accept"] = []string{
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
	}
	mediaType, manifest := f.roundTrip(get, http.StatusOK)
	put, err := http.NewRequestWithContext(f.ctx, http.MethodPut, url+tag, bytes.NewReader(manifest))
	require.NoError(f, err)
	put.Header.Set("Content-Type", mediaType)
	f.roundTrip(put, http.StatusCreated)
}

func (f *fixture) roundTrip(request *http.Request, status int) (mediaType string, body []byte) {
	f.Helper()
	response, err := http.DefaultClient.Do(request)
	require.NoError(f, err)
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	require.NoError(f, err)
	require.Equal(f, status, response.StatusCode, "%s %s: %s", request.Method, request.URL, body)
	return response.Header.Get("Content-Type"), body
}
