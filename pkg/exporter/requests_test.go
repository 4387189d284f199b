package exporter_test

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/exporter"
)

func (s *site) ask(method, path string, header map[string]string) (*http.Response, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, http.NoBody)
	require.NoError(s.t, err)
	for key, value := range header {
		request.Header.Set(key, value)
	}
	response, err := s.client().Do(request)
	require.NoError(s.t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, response.Body.Close())
	return response, string(body)
}

func TestRequests(t *testing.T) {
	dir, content := newDisk(t, 3*mib, run{0, 3 * mib})
	s := serve(t, options(t, dir))
	disk := string(content)
	bearer := "Bearer " + token
	first, _ := s.ask(http.MethodHead, "/disk", map[string]string{"Authorization": bearer})
	etag := first.Header.Get("ETag")
	require.Equal(t, "/extents", first.Header.Get("Gild-Extents"))
	require.Equal(t, int64(3*mib), first.ContentLength)
	require.Equal(t, 1, first.ProtoMajor, "parts come over connections of their own")

	for name, c := range map[string]struct {
		method, path string
		header       map[string]string
		status       int
		body         string
		header2      map[string]string
	}{
		"whole":              {path: "/disk", status: 200, body: disk, header2: map[string]string{"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", "Cache-Control": "no-store"}},
		"head":               {method: http.MethodHead, path: "/disk", status: 200},
		"part":               {path: "/disk", header: map[string]string{"Range": "bytes=10-19"}, status: 206, body: disk[10:20], header2: map[string]string{"Content-Range": "bytes 10-19/3145728"}},
		"end":                {path: "/disk", header: map[string]string{"Range": "bytes=-5"}, status: 206, body: disk[3*mib-5:]},
		"behind the end":     {path: "/disk", header: map[string]string{"Range": "bytes=3145728-"}, status: 416, header2: map[string]string{"Content-Range": "bytes */3145728"}},
		"matches":            {path: "/disk", header: map[string]string{"Range": "bytes=0-1", "If-Match": etag, "If-Range": etag}, status: 206, body: disk[:2]},
		"other revision":     {path: "/disk", header: map[string]string{"Range": "bytes=0-1", "If-Match": `"sha256:1234"`}, status: 412},
		"part of another":    {path: "/disk", header: map[string]string{"Range": "bytes=0-1", "If-Range": `"other"`}, status: 200, body: disk},
		"not modified":       {path: "/disk", header: map[string]string{"If-None-Match": etag}, status: 304},
		"extents":            {path: "/extents", header: map[string]string{"If-Match": etag}, status: 200, body: `{"size":3145728,"extents":[[0,3145728]]}`, header2: map[string]string{"Etag": etag, "Content-Type": "application/json"}},
		"extents of another": {path: "/extents", header: map[string]string{"If-Match": `"other"`}, status: 412},
		"root":               {path: "/", status: 404},
		"directory":          {path: "/disk/", status: 404},
		"climb":              {path: "/disk/../../etc/passwd", status: 404},
		"encoded":            {path: "/%2e%2e/disk.img", status: 404},
		"write":              {method: http.MethodPut, path: "/disk", status: 405, header2: map[string]string{"Allow": "GET, HEAD"}},
		"post health":        {method: http.MethodPost, path: "/healthz", status: 405},
		"health":             {path: "/healthz", status: 200, header: map[string]string{"Authorization": ""}},
		"no token":           {path: "/disk", status: 401, header: map[string]string{"Authorization": ""}, header2: map[string]string{"Www-Authenticate": "Bearer"}},
		"empty token":        {path: "/disk", status: 401, header: map[string]string{"Authorization": "Bearer "}},
		"wrong token":        {path: "/disk", status: 401, header: map[string]string{"Authorization": bearer + "x"}},
		"shorter token":      {path: "/disk", status: 401, header: map[string]string{"Authorization": bearer[:len(bearer)-1]}},
		"basic":              {path: "/disk", status: 401, header: map[string]string{"Authorization": "Basic " + token}},
		"bare token":         {path: "/disk", status: 401, header: map[string]string{"Authorization": token}},
		"token in the query": {path: "/disk?token=" + token, status: 401, header: map[string]string{"Authorization": ""}},
		"extents unasked":    {path: "/extents", status: 401, header: map[string]string{"Authorization": ""}},
		"nothing unasked":    {path: "/other", status: 401, header: map[string]string{"Authorization": ""}},
		"write unasked":      {method: http.MethodPut, path: "/disk", status: 401, header: map[string]string{"Authorization": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			header := map[string]string{"Authorization": bearer}
			for key, value := range c.header {
				header[key] = value
			}
			if c.method == "" {
				c.method = http.MethodGet
			}
			response, body := s.ask(c.method, c.path, header)
			require.Equal(t, c.status, response.StatusCode, body)
			if c.body != "" {
				require.True(t, c.body == body, "the body differs")
			}
			if c.status >= 400 {
				require.NotContains(t, body, "canary")
				require.Less(t, len(body), 100)
			}
			for key, value := range c.header2 {
				require.Equal(t, value, response.Header.Get(key), key)
			}
		})
	}
}

func TestManyHolesAreBounded(t *testing.T) {
	// One block of data in every second MiB of a large disk.
	var runs []run
	for off := int64(0); off < 20000*2*mib; off += 2 * mib {
		runs = append(runs, run{off, 4096})
	}
	dir := newSparse(t, 20000*2*mib, runs)
	s := serve(t, options(t, dir))
	_, body := s.ask(http.MethodGet, "/extents", map[string]string{"Authorization": "Bearer " + token})
	require.Less(t, len(body), mib)
	var found exporter.Extents
	require.NoError(t, json.Unmarshal([]byte(body), &found))
	require.LessOrEqual(t, len(found.Extents), 16384)
	at := 0
	for _, r := range runs {
		for found.Extents[at][0]+found.Extents[at][1] <= r.off {
			at++
		}
		require.LessOrEqual(t, found.Extents[at][0], r.off, "data at %d is not told", r.off)
		require.GreaterOrEqual(t, found.Extents[at][0]+found.Extents[at][1], r.off+r.length)
	}
	s.image()
}

func TestOldTLSIsRefused(t *testing.T) {
	dir, _ := newDisk(t, mib, run{0, mib})
	s := serve(t, options(t, dir))
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}}
	_, err := dialer.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "https://"))
	require.ErrorContains(t, err, "protocol version")
}

func TestConnectionsAreBounded(t *testing.T) {
	dir, content := newDisk(t, 2*mib, run{0, 2 * mib})
	o := options(t, dir)
	o.Connections = 2
	s := serve(t, o)
	client := s.client()
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/disk", http.NoBody)
			assert.NoError(t, err)
			request.Header.Set("Authorization", "Bearer "+token)
			response, err := client.Do(request)
			if !assert.NoError(t, err) {
				return
			}
			body, err := io.ReadAll(response.Body)
			assert.NoError(t, err)
			assert.Equal(t, len(content), len(body))
			assert.NoError(t, response.Body.Close())
		})
	}
	readers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Equal(t, 2, s.most)
}

func TestEndsWhenNobodyReads(t *testing.T) {
	dir, _ := newDisk(t, mib, run{0, mib})
	s := serve(t, options(t, dir))
	_, _ = s.ask(http.MethodGet, "/healthz", nil)
	_, _ = s.ask(http.MethodGet, "/disk", nil)
	_, left, resets := s.timer.state()
	require.Equal(t, 1, resets, "neither the kubelet nor a stranger keeps an exporter alive")
	require.Equal(t, time.Minute, left)
	_, _ = s.ask(http.MethodGet, "/disk", map[string]string{"Authorization": "Bearer " + token})
	// The answer is there before its handler has ended.
	require.Eventually(t, func() bool { runs, _, resets := s.timer.state(); return runs && resets == 2 }, 10*time.Second, time.Millisecond)
	s.timer.f()
	<-s.ended
	require.NoError(t, s.result)
}

// TestDoesNotEndWhileSomebodyReads lets the timer run out in the middle of an answer.
func TestDoesNotEndWhileSomebodyReads(t *testing.T) {
	dir, content := newDisk(t, 64*mib, run{0, 64 * mib})
	s := serve(t, options(t, dir))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/disk", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := s.client().Do(request)
	require.NoError(t, err)
	// More is to come than any buffer on the way holds.
	runs, _, _ := s.timer.state()
	require.False(t, runs)
	s.timer.f()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, len(content), len(body))
}

func TestEndsWhenTold(t *testing.T) {
	dir, _ := newDisk(t, mib, run{0, mib})
	s := serve(t, options(t, dir))
	s.image()
	s.stop()
	<-s.ended
	require.NoError(t, s.result)
}
