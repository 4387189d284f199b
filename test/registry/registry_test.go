package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/test/registry/fault"
)

// world has every way of one registry.
type world struct {
	*testing.T
	urls   map[string]string
	client *http.Client
}

func start(t *testing.T) *world {
	t.Helper()
	store := httptest.NewUnstartedServer(nil)
	p, err := newParts(t.TempDir(), "https://"+store.Listener.Addr().String(), fault.New())
	require.NoError(t, err)
	w := &world{T: t, urls: map[string]string{}}
	// The registries live as long as their context.
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	for _, way := range ways() {
		server := httptest.NewUnstartedServer(nil)
		if way.name == "store" {
			server = store
		}
		server.Config.Handler = way.handler(ctx, p)
		if way.tls {
			server.StartTLS()
			w.client = server.Client() // all of them have the same certificate
		} else {
			server.Start()
		}
		t.Cleanup(server.Close)
		w.urls[way.name] = server.URL
	}
	return w
}

func (w *world) do(method, url string, header http.Header, body []byte) (*http.Response, []byte, error) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, url, bytes.NewReader(body))
	require.NoError(w, err)
	for key, values := range header {
		r.Header[key] = values
	}
	answer, err := w.client.Do(r)
	require.NoError(w, err)
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(answer.Body)
	return answer, content, err
}

// push puts a blob and a manifest with it into a repository and returns the digest of the blob.
func (w *world) push(repository string, blob []byte) string {
	w.Helper()
	put := func(content []byte) string {
		begun, _, err := w.do(http.MethodPost, w.urls["control"]+"/v2/"+repository+"/blobs/uploads/", nil, nil)
		require.NoError(w, err)
		require.Equal(w, http.StatusAccepted, begun.StatusCode)
		location, err := begun.Location()
		require.NoError(w, err)
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
		query := location.Query()
		query.Set("digest", digest)
		location.RawQuery = query.Encode()
		done, text, err := w.do(http.MethodPut, location.String(), nil, content)
		require.NoError(w, err)
		require.Equal(w, http.StatusCreated, done.StatusCode, string(text))
		return digest
	}
	config, layer := put([]byte("{}")), put(blob)
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},
"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`, mediaType, config, layer, len(blob))
	done, text, err := w.do(http.MethodPut, w.urls["control"]+"/v2/"+repository+"/manifests/1", http.Header{"Content-Type": {mediaType}}, []byte(manifest))
	require.NoError(w, err)
	require.Equal(w, http.StatusCreated, done.StatusCode, string(text))
	return layer
}

// faults sets those of disks/one.
func (w *world) faults(faults ...fault.Fault) {
	w.Helper()
	text, err := json.Marshal(faults)
	require.NoError(w, err)
	done, _, err := w.do(http.MethodPut, w.urls["control"]+"/control/faults/disks/one", nil, text)
	require.NoError(w, err)
	require.Equal(w, http.StatusNoContent, done.StatusCode)
}

func (w *world) login(password string) http.Header {
	w.Helper()
	done, _, err := w.do(http.MethodPut, w.urls["control"]+"/control/users/reader", nil, []byte(password))
	require.NoError(w, err)
	require.Equal(w, http.StatusNoContent, done.StatusCode)
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth("reader", password)
	return r.Header
}

// status asks for the blob on one way.
func (w *world) status(way, repository, blob string, header http.Header) int {
	w.Helper()
	answer, _, err := w.do(http.MethodGet, w.urls[way]+"/v2/"+repository+"/blobs/"+blob, header, nil)
	require.NoError(w, err)
	return answer.StatusCode
}

func TestWays(t *testing.T) {
	w := start(t)
	blob := w.push("disks/one", []byte("a disk"))
	basic := w.login("right")
	wrong := &http.Request{Header: http.Header{}}
	wrong.SetBasicAuth("reader", "wrong")
	for _, way := range []string{"plain", "tls"} {
		require.Equal(t, http.StatusOK, w.status(way, "disks/one", blob, nil), way)
	}
	for _, way := range []string{"guarded", "basic"} {
		require.Equal(t, http.StatusUnauthorized, w.status(way, "disks/one", blob, nil), way)
		require.Equal(t, http.StatusUnauthorized, w.status(way, "disks/one", blob, wrong.Header), way)
		require.Equal(t, http.StatusOK, w.status(way, "disks/one", blob, basic), way)
	}
	// The client of Go leaves the header out where it is redirected to another host, and this is one
	// host with several ports: it shows it, and the store refuses it and remembers.
	require.Equal(t, http.StatusBadRequest, w.status("redirect", "disks/one", blob, basic))
	_, text, err := w.do(http.MethodGet, w.urls["control"]+"/control/requests/store/"+strings.TrimPrefix(blob, "sha256:"), nil, nil)
	require.NoError(t, err)
	var requests []fault.Request
	require.NoError(t, json.Unmarshal(text, &requests))
	require.Len(t, requests, 1)
	require.NotEmpty(t, requests[0].Header.Get("Authorization"))
}

// token asks for a token for a repository.
func (w *world) token(repository string, header http.Header) http.Header {
	w.Helper()
	answer, text, err := w.do(http.MethodGet, w.urls["token"]+tokenPath+"?service="+tokenService+"&scope=repository:"+repository+":pull", header, nil)
	require.NoError(w, err)
	require.Equal(w, http.StatusOK, answer.StatusCode)
	var given struct{ Token string }
	require.NoError(w, json.Unmarshal(text, &given))
	return http.Header{"Authorization": {"Bearer " + given.Token}}
}

func TestTokens(t *testing.T) {
	w := start(t)
	blob, public := w.push("disks/one", []byte("a disk")), w.push("library/one", []byte("a disk"))
	basic := w.login("right")
	answer, _, err := w.do(http.MethodGet, w.urls["token"]+"/v2/disks/one/manifests/1", nil, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	require.Contains(t, answer.Header.Get("WWW-Authenticate"), `Bearer realm="`+w.urls["token"]+tokenPath+`",service="`+tokenService+`",scope="repository:disks/one:pull"`)
	require.Equal(t, http.StatusOK, w.status("token", "disks/one", blob, w.token("disks/one", basic)))
	require.Equal(t, http.StatusUnauthorized, w.status("token", "disks/one", blob, w.token("disks/one", nil)), "nobody gets it")
	require.Equal(t, http.StatusUnauthorized, w.status("token", "disks/one", blob, w.token("disks/two", basic)), "for something else")
	require.Equal(t, http.StatusOK, w.status("token", "library/one", public, w.token("library/one", nil)))

	w.faults(fault.Fault{TokenSeconds: 1})
	short := w.token("disks/one", basic)
	require.Eventually(t, func() bool { return w.status("token", "disks/one", blob, short) == http.StatusUnauthorized },
		10*time.Second, 50*time.Millisecond, "a token that does not end")
}

func TestFaults(t *testing.T) {
	w := start(t)
	content := bytes.Repeat([]byte("0123456789"), 10000)
	blob := w.push("disks/one", content)
	get := func(header http.Header) (*http.Response, []byte, error) {
		return w.do(http.MethodGet, w.urls["plain"]+"/v2/disks/one/blobs/"+blob, header, nil)
	}
	w.faults(fault.Fault{On: fault.Blob, Status: 429, Times: 1, Skip: 1, RetryAfter: "7"})
	answer, _, _ := get(nil)
	require.Equal(t, 200, answer.StatusCode)
	answer, _, _ = get(nil)
	require.Equal(t, 429, answer.StatusCode)
	require.Equal(t, "7", answer.Header.Get("Retry-After"))
	answer, _, _ = get(nil)
	require.Equal(t, 200, answer.StatusCode)

	w.faults(fault.Fault{CutAfter: 40000, Times: 1})
	_, got, err := get(nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, content[:40000], got)
	_, got, err = get(nil)
	require.NoError(t, err)
	require.Equal(t, content, got)

	w.faults(fault.Fault{FlipAt: 50001})
	_, got, err = get(http.Header{"Range": {"bytes=49999-50001"}})
	require.NoError(t, err)
	require.Equal(t, []byte{'9', '0' ^ 0xff, '1'}, got)

	w.faults(fault.Fault{On: fault.Manifest, PadTo: 1 << 20})
	answer, got, err = w.do(http.MethodGet, w.urls["plain"]+"/v2/disks/one/manifests/1", http.Header{"Accept": {"application/vnd.oci.image.manifest.v1+json"}}, nil)
	require.NoError(t, err)
	require.Equal(t, 200, answer.StatusCode)
	require.Len(t, got, 1<<20)
	require.True(t, json.Valid(got))

	w.faults(fault.Fault{On: fault.Blob, HoldAfter: 30000})
	ended := make(chan int, 1)
	go func() {
		_, got, _ := get(nil)
		ended <- len(got)
	}()
	require.Eventually(t, func() bool {
		_, text, err := w.do(http.MethodGet, w.urls["control"]+"/control/requests/disks/one", nil, nil)
		require.NoError(t, err)
		var requests []fault.Request
		require.NoError(t, json.Unmarshal(text, &requests))
		return requests[len(requests)-1].Bytes == 30000
	}, 10*time.Second, 10*time.Millisecond)
	w.faults()
	require.Equal(t, len(content), <-ended)
}
