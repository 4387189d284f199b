//go:build corpus

package corpus

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Behind smallUntil bytes chunks are later times as large: also odd, and done in time.
const (
	smallUntil = 512 << 10
	later      = 61
)

// serve starts a web server for the images and returns its URL.
//
//	/ranges/…    has ranges and a strong ETag
//	/chunks/N/…  has a strong ETag and no ranges, and sends N bytes at a time
//	/once/N/…    the same without anything that names the revision
func serve(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ranges/{folder}/{file}", func(w http.ResponseWriter, r *http.Request) {
		f, err := openServed(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		defer func() { _ = f.Close() }()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("ETag", etag(r))
		http.ServeContent(w, r, "", f.modified, f)
	})
	mux.HandleFunc("GET /chunks/{size}/{folder}/{file}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag(r))
		inChunks(w, r)
	})
	mux.HandleFunc("GET /once/{size}/{folder}/{file}", inChunks)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func etag(r *http.Request) string { return strconv.Quote(r.PathValue("folder") + r.PathValue("file")) }

func inChunks(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.Atoi(r.PathValue("size"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f, err := openServed(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer func() { _ = f.Close() }()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(f.size, 10))
	if r.Method == http.MethodHead {
		return
	}
	chunk := make([]byte, size*later)
	flusher := http.NewResponseController(w)
	for sent := 0; ; {
		length := size
		if sent > smallUntil {
			length *= later
		}
		n, err := io.ReadFull(f, chunk[:length])
		if _, failed := w.Write(chunk[:n]); failed != nil || err != nil {
			return
		}
		sent += n
		if flusher.Flush() != nil {
			return
		}
	}
}

type served struct {
	*os.File
	size     int64
	modified time.Time
}

func openServed(r *http.Request) (served, error) {
	f, err := os.Open(filepath.Join(home, filepath.Base(r.PathValue("folder")), filepath.Base(r.PathValue("file"))))
	if err != nil {
		return served{}, fmt.Errorf("opening served file: %w", err)
	}
	stat, err := f.Stat()
	if err != nil {
		return served{}, fmt.Errorf("opening served file: %w", err)
	}
	return served{f, stat.Size(), stat.ModTime()}, nil
}

func TestServerSendsChunks(t *testing.T) {
	want, err := os.ReadFile(filepath.Join(home, "images", "raw-odd-size-1572941.raw"))
	require.NoError(t, err)
	url := serve(t)
	for _, way := range []string{"/ranges", "/chunks/17", "/once/4093"} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+way+"/images/raw-odd-size-1572941.raw", nil)
		require.NoError(t, err)
		request.Header.Set("Range", "bytes=1-3")
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		got, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		if way == "/ranges" {
			require.Equal(t, http.StatusPartialContent, response.StatusCode)
			require.Equal(t, want[1:4], got)
		} else {
			require.Equal(t, http.StatusOK, response.StatusCode)
			require.Equal(t, want, got)
		}
	}
}
