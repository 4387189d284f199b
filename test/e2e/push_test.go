//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// endpoint is where images are pushed to.
type endpoint struct {
	client *http.Client
	// base is what comes before /v2/.
	base string
}

// controlEndpoint is the registry's control port, through the API server.
func (c *cluster) controlEndpoint() (endpoint, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return endpoint{}, fmt.Errorf("reading KUBECONFIG: %w", err)
	}
	web, err := rest.HTTPClientFor(config)
	if err != nil {
		return endpoint{}, fmt.Errorf("connecting to the cluster: %w", err)
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return endpoint{}, fmt.Errorf("finding the API server: %w", err)
	}
	path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%d/proxy", c.webNamespace(), registryName, httpPort)
	return endpoint{client: web, base: strings.TrimSuffix(server.String(), "/") + path}, nil
}

// call sends one request for a path behind /v2/ and returns where the answer points to.
func (e endpoint) call(ctx context.Context, method, path, contentType string, body []byte) (location string, err error) {
	request, err := http.NewRequestWithContext(ctx, method, e.base+"/v2/"+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := e.client.Do(request)
	if err != nil {
		return "", fmt.Errorf("pushing: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("pushing: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return "", fmt.Errorf("pushing: %s %s: %s: %s", method, path, response.Status, text)
	}
	return response.Header.Get("Location"), nil
}

// blob pushes a blob.
func (e endpoint) blob(ctx context.Context, repository string, content []byte, digest string) error {
	location, err := e.call(ctx, http.MethodPost, repository+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	// Whoever is between has put its own host and path before the registry's.
	_, path, found := strings.Cut(location, "/v2/")
	if !found {
		return errors.New("pushing: the registry does not say where to: " + location)
	}
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	_, err = e.call(ctx, http.MethodPut, path+separator+"digest="+url.QueryEscape(digest), "application/octet-stream", content)
	return err
}

// image pushes an image and returns the digest of its manifest. name is a tag, or a digest that must be right.
func (e endpoint) image(ctx context.Context, repository, name string, img ociImage) (string, error) {
	for _, one := range append([]ociBlob{img.config}, img.layers...) {
		if len(one.urls) > 0 {
			continue // it is elsewhere
		}
		if err := e.blob(ctx, repository, one.content, digestOf(one.content)); err != nil {
			return "", err
		}
	}
	manifest, err := json.Marshal(img.manifest())
	if err != nil {
		return "", err
	}
	return e.manifest(ctx, repository, name, img.mediaType, manifest)
}

// manifest pushes a manifest or an index and returns its digest. An empty name is its digest.
func (e endpoint) manifest(ctx context.Context, repository, name, mediaType string, manifest []byte) (string, error) {
	digest := digestOf(manifest)
	if name == "" {
		name = digest
	}
	_, err := e.call(ctx, http.MethodPut, repository+"/manifests/"+name, mediaType, manifest)
	return digest, err
}

// index pushes images and an index of them, by architecture.
func (e endpoint) index(ctx context.Context, repository, name string, images map[string]ociImage) (string, error) {
	type entry struct {
		MediaType string            `json:"mediaType"`
		Digest    string            `json:"digest"`
		Size      int               `json:"size"`
		Platform  map[string]string `json:"platform"`
	}
	list := struct {
		SchemaVersion int     `json:"schemaVersion"`
		MediaType     string  `json:"mediaType"`
		Manifests     []entry `json:"manifests"`
	}{SchemaVersion: 2, MediaType: ociIndexType}
	for architecture, img := range images {
		digest, err := e.image(ctx, repository, "", img)
		if err != nil {
			return "", err
		}
		manifest, err := json.Marshal(img.manifest())
		if err != nil {
			return "", err
		}
		list.Manifests = append(list.Manifests, entry{img.mediaType, digest, len(manifest), map[string]string{"os": "linux", "architecture": architecture}})
	}
	text, err := json.Marshal(list)
	if err != nil {
		return "", err
	}
	return e.manifest(ctx, repository, name, ociIndexType, text)
}

// Push puts an image into the registry, in a repository of the test's own.
func (f *fixture) Push(name string, img ociImage) *pushed {
	f.Helper()
	return f.PushTo(f.namespace+"/"+name, "1", img)
}

// PushTo puts an image where it is told to, in place of what is there.
func (f *fixture) PushTo(repository, tag string, img ociImage) *pushed {
	f.Helper()
	to, err := f.controlEndpoint()
	require.NoError(f, err)
	digest, err := to.image(f.ctx, repository, tag, img)
	require.NoError(f, err)
	return &pushed{f: f, repository: repository, tag: tag, digest: digest, host: f.Registry()}
}

// PushIndex puts an index of images into the registry, by architecture.
func (f *fixture) PushIndex(name string, images map[string]ociImage) *pushed {
	f.Helper()
	to, err := f.controlEndpoint()
	require.NoError(f, err)
	repository := f.namespace + "/" + name
	digest, err := to.index(f.ctx, repository, "1", images)
	require.NoError(f, err)
	return &pushed{f: f, repository: repository, tag: "1", digest: digest, host: f.Registry()}
}
