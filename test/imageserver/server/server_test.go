package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/test/imageserver/disk"
	"github.com/gild-project/gild/test/imageserver/server"
)

const (
	waitFor = 10 * time.Second
	tick    = 10 * time.Millisecond
)

func start(t *testing.T) *httptest.Server {
	t.Helper()
	web := httptest.NewServer(server.New(t.TempDir(), t.Logf))
	t.Cleanup(web.Close)
	return web
}

func put(t *testing.T, web *httptest.Server, path string, body io.Reader) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, web.URL+path, body)
	require.NoError(t, err)
	response, err := web.Client().Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	require.Equal(t, http.StatusNoContent, response.StatusCode)
}

func publish(t *testing.T, web *httptest.Server, file server.File) {
	t.Helper()
	description, err := json.Marshal(file)
	require.NoError(t, err)
	put(t, web, "/control/files/a/disk", bytes.NewReader(description))
}

// get fetches the published file with the headers given as name, value.
func get(t *testing.T, web *httptest.Server, headers ...string) (*http.Response, []byte, error) {
	t.Helper()
	response, err := fetch(t, web, headers...)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}

// fetch sends the request of get. It may be called in any goroutine.
func fetch(t *testing.T, web *httptest.Server, headers ...string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/files/a/disk", nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return web.Client().Transport.RoundTrip(request)
}

func requests(t *testing.T, web *httptest.Server) []server.Request {
	t.Helper()
	response, err := web.Client().Get(web.URL + "/control/requests/a/disk")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var seen []server.Request
	require.NoError(t, json.NewDecoder(response.Body).Decode(&seen))
	return seen
}

func TestServesDisksBlobsAndText(t *testing.T) {
	web := start(t)
	image := disk.Disk{Seed: 7, Size: 300_000}

	publish(t, web, server.File{Disk: &image})
	response, body, err := get(t, web)
	require.NoError(t, err)
	require.Equal(t, "bytes", response.Header.Get("Accept-Ranges"))
	want, err := image.SHA256()
	require.NoError(t, err)
	sum := sha256.Sum256(body)
	require.Equal(t, want, hex.EncodeToString(sum[:]))

	put(t, web, "/control/blobs/my/blob", strings.NewReader("blob"))
	publish(t, web, server.File{Blob: "my/blob"})
	_, body, err = get(t, web)
	require.NoError(t, err)
	require.Equal(t, "blob", string(body))

	publish(t, web, server.File{Text: "<html>", ContentType: "text/html"})
	response, body, err = get(t, web)
	require.NoError(t, err)
	require.Equal(t, "text/html", response.Header.Get("Content-Type"))
	require.Equal(t, "<html>", string(body))
}

func TestUnpublishedIsNotFound(t *testing.T) {
	response, _, err := get(t, start(t))
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, response.StatusCode)
}

func TestRangesFollowTheETag(t *testing.T) {
	web := start(t)
	publish(t, web, server.File{Text: "0123456789"})
	response, body, err := get(t, web, "Range", "bytes=4-")
	require.NoError(t, err)
	require.Equal(t, http.StatusPartialContent, response.StatusCode)
	require.Equal(t, "456789", string(body))
	etag := response.Header.Get("ETag")

	response, _, err = get(t, web, "Range", "bytes=4-", "If-Range", etag)
	require.NoError(t, err)
	require.Equal(t, http.StatusPartialContent, response.StatusCode)

	publish(t, web, server.File{Text: "abcdefghij"})
	response, body, err = get(t, web, "Range", "bytes=4-", "If-Range", etag)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "abcdefghij", string(body))
}

func TestNoRangeServesTheWholeFile(t *testing.T) {
	web := start(t)
	publish(t, web, server.File{Text: "0123456789", NoRange: true, NoETag: true})
	response, body, err := get(t, web, "Range", "bytes=4-")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Empty(t, response.Header.Get("Accept-Ranges"))
	require.Empty(t, response.Header.Get("ETag"))
	require.Equal(t, "0123456789", string(body))
}

func TestNeededHeaders(t *testing.T) {
	web := start(t)
	publish(t, web, server.File{Text: "x", Need: map[string]string{"Authorization": "Bearer right"}})
	for authorization, status := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer right": 200} {
		response, _, err := get(t, web, "Authorization", authorization)
		require.NoError(t, err)
		require.Equal(t, status, response.StatusCode, authorization)
	}
}

func TestStatusForAWhile(t *testing.T) {
	web := start(t)
	publish(t, web, server.File{Text: "x", Status: 429, StatusTimes: 2, Headers: map[string]string{"Retry-After": "7"}})
	for _, status := range []int{429, 429, 200} {
		response, _, err := get(t, web)
		require.NoError(t, err)
		require.Equal(t, status, response.StatusCode)
		require.Equal(t, "7", response.Header.Get("Retry-After"))
	}
}

func TestRedirect(t *testing.T) {
	web := start(t)
	publish(t, web, server.File{RedirectTo: "http://elsewhere.example/x"})
	response, _, err := get(t, web)
	require.NoError(t, err)
	require.Equal(t, http.StatusFound, response.StatusCode)
	require.Equal(t, "http://elsewhere.example/x", response.Header.Get("Location"))
}

func TestCutsThenReplaces(t *testing.T) {
	for name, reset := range map[string]bool{"closed": false, "reset": true} {
		t.Run(name, func(t *testing.T) {
			web := start(t)
			image := disk.Disk{Seed: 7, Size: 1 << 20}
			publish(t, web, server.File{Disk: &image, CutAfter: 100_000, CutTimes: 2, Reset: reset,
				AfterCut: &server.File{Text: "new"}})
			_, _, err := get(t, web, "Range", "bytes=0-511")
			require.NoError(t, err, "a body that is short enough is not cut")
			for range 2 {
				_, body, err := get(t, web)
				require.Error(t, err)
				require.LessOrEqual(t, len(body), 100_000)
			}
			_, body, err := get(t, web)
			require.NoError(t, err)
			require.Equal(t, "new", string(body))
		})
	}
}

func TestHoldsUntilPublishedAgain(t *testing.T) {
	web := start(t)
	image := disk.Disk{Seed: 7, Size: 1 << 20}
	publish(t, web, server.File{Disk: &image, HoldAfter: 500_000})
	got := make(chan int)
	halves := []string{"bytes=0-524287", "bytes=524288-"}
	for _, half := range halves {
		go func() {
			response, err := fetch(t, web, "Range", half)
			if err != nil {
				got <- -1
				return
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			got <- len(body)
		}()
	}
	require.Eventually(t, func() bool {
		seen := requests(t, web)
		return len(seen) == 2 && seen[0].Bytes+seen[1].Bytes == 500_000
	}, waitFor, tick)
	select {
	case n := <-got:
		require.Fail(t, "a body ended while it was held", "%d bytes", n)
	default:
	}
	publish(t, web, server.File{Disk: &image})
	for range halves {
		require.Equal(t, 512<<10, <-got)
	}
}

func TestETagFollowsTheContent(t *testing.T) {
	web := start(t)
	etag := func(file server.File) string {
		publish(t, web, file)
		response, _, err := get(t, web, "Range", "bytes=0-0")
		require.NoError(t, err)
		return response.Header.Get("ETag")
	}
	first := etag(server.File{Disk: &disk.Disk{Seed: 7, Size: 4096}})
	require.Equal(t, first, etag(server.File{Disk: &disk.Disk{Seed: 7, Size: 4096}, BytesPerSecond: 1 << 20}))
	require.NotEqual(t, first, etag(server.File{Disk: &disk.Disk{Seed: 8, Size: 4096}}))
	require.NotEqual(t, first, etag(server.File{Text: "text"}))
}

func TestRateIsBounded(t *testing.T) {
	web := start(t)
	image := disk.Disk{Seed: 7, Size: 64 << 20}
	publish(t, web, server.File{Disk: &image, BytesPerSecond: 1 << 20})
	response, err := web.Client().Get(web.URL + "/files/a/disk")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	_, err = io.CopyN(io.Discard, response.Body, 200_000)
	require.NoError(t, err)
	require.Less(t, requests(t, web)[0].Bytes, int64(32<<20))
}

func TestRequestLog(t *testing.T) {
	web := start(t)
	publish(t, web, server.File{Text: "0123456789"})
	_, _, err := get(t, web, "Range", "bytes=4-", "X-Who", "me")
	require.NoError(t, err)
	seen := requests(t, web)
	require.Len(t, seen, 1)
	require.Equal(t, "GET", seen[0].Method)
	require.Equal(t, strings.TrimPrefix(web.URL, "http://"), seen[0].Host)
	require.Equal(t, "me", seen[0].Header.Get("X-Who"))
	require.Equal(t, "bytes=4-", seen[0].Header.Get("Range"))
	require.Equal(t, http.StatusPartialContent, seen[0].Status)
	require.Equal(t, int64(6), seen[0].Bytes)
	require.False(t, seen[0].TLS)
}
