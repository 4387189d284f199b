package source_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// kind is one way to serve an image. A new source adds a line to kinds.
type kind struct {
	// serve makes body available and returns its URL and how to reach it.
	serve func(t *testing.T, body []byte) (string, source.Options)
}

func kinds() map[string]kind {
	return map[string]kind{
		"file": {func(t *testing.T, body []byte) (string, source.Options) {
			path := filepath.Join(t.TempDir(), "disk image.raw")
			require.NoError(t, os.WriteFile(path, body, 0o600))
			return (&url.URL{Scheme: "file", Path: path}).String(), options(newClock())
		}},
		"http": {func(t *testing.T, body []byte) (string, source.Options) {
			return newSite(t, body).url(), options(newClock())
		}},
		"https": {func(t *testing.T, body []byte) (string, source.Options) {
			s := newSite(t, body)
			secure := httptest.NewTLSServer(s)
			t.Cleanup(secure.Close)
			o := options(newClock())
			o.CAs = x509.NewCertPool()
			o.CAs.AddCert(secure.Certificate())
			return secure.URL + "/disk?sig=" + canary, o
		}},
	}
}

// TestConformance is what every source must do.
func TestConformance(t *testing.T) {
	for name, k := range kinds() {
		t.Run(name, func(t *testing.T) {
			body := random(3*mib + 77)
			for _, chunk := range []int{17, 4096, mib} {
				url, o := k.serve(t, body[:min(len(body), chunk*5000)])
				want := body[:min(len(body), chunk*5000)]
				image := open(t, url, o)
				require.EqualValues(t, len(want), image.Size())
				require.True(t, image.Framed())
				require.NotContains(t, image.Name(), canary)
				_, lastModified := image.Validators()
				require.NotEmpty(t, lastModified)
				tail, err := image.Tail(t.Context(), 512)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want[len(want)-512:], tail))
				got, err := readAll(t.Context(), image, chunk)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got))
				more, err := readAll(t.Context(), image, chunk)
				require.NoError(t, err)
				require.Empty(t, more, "the end stays the end")
			}
		})
		t.Run(name+" short", func(t *testing.T) {
			url, o := k.serve(t, []byte("x"))
			image := open(t, url, o)
			_, err := image.Tail(t.Context(), 512)
			require.Error(t, err)
			got, err := readAll(t.Context(), image, mib)
			require.NoError(t, err)
			require.Equal(t, "x", string(got))
		})
		t.Run(name+" empty", func(t *testing.T) {
			url, o := k.serve(t, nil)
			require.Equal(t, source.EmptySource, failure(t, url, o).Reason())
		})
		t.Run(name+" missing", func(t *testing.T) {
			ref, o := k.serve(t, []byte("x"))
			u, err := url.Parse(ref)
			require.NoError(t, err)
			u.Path, u.RawPath = "/no/such/image", ""
			if u.Scheme != "file" {
				o.Pin = source.Revision{ETag: `"other"`}
				require.Equal(t, source.SourceChanged, failure(t, u.String(), o).Reason())
				return
			}
			require.Equal(t, source.NotFound, failure(t, u.String(), o).Reason())
		})
		t.Run(name+" cancelled", func(t *testing.T) {
			url, o := k.serve(t, random(8*mib))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			image, err := source.Open(ctx, url, o)
			require.NoError(t, err)
			_, err = image.Read(ctx, make([]byte, 1024))
			require.NoError(t, err)
			cancel()
			_, err = readAll(ctx, image, 64<<10)
			require.ErrorIs(t, err, context.Canceled)
			require.NoError(t, image.Close())
		})
		t.Run(name+" pinned", func(t *testing.T) {
			url, o := k.serve(t, []byte("body"))
			image := open(t, url, o)
			etag, lastModified := image.Validators()
			o.Pin = source.Revision{ETag: etag, LastModified: lastModified, Length: 4}
			got, err := readAll(t.Context(), open(t, url, o), mib)
			require.NoError(t, err)
			require.Equal(t, "body", string(got))
			for _, pin := range []source.Revision{{ETag: `"no"`}, {ETag: `W/"no"`}, {LastModified: "Thu, 01 Jan 1970 00:00:00 GMT"}, {Length: 5}} {
				o.Pin = pin
				require.Equal(t, source.SourceChanged, failure(t, url, o).Reason(), pin)
			}
		})
	}
}

func TestOpenRefusesOtherSchemes(t *testing.T) {
	for _, url := range []string{"ftp://host/canary", "gopher://canary", "/etc/passwd", "https://host:canary/"} {
		require.Equal(t, source.SourceRefused, failure(t, url, options(newClock())).Reason())
	}
}

func TestFileIsNoDevice(t *testing.T) {
	for _, path := range []string{"/dev/zero", "/dev/null"} {
		require.Equal(t, source.SourceRefused, failure(t, "file://"+path, options(newClock())).Reason(), path)
	}
}

func TestFileThatChanges(t *testing.T) {
	for name, change := range map[string]func(f *os.File) error{
		"grows":    func(f *os.File) error { _, err := f.WriteAt([]byte("x"), 4*mib); return err },
		"shrinks":  func(f *os.File) error { return f.Truncate(mib) },
		"replaced": func(f *os.File) error { return os.Chtimes(f.Name(), newClock().now, newClock().now) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "disk")
			require.NoError(t, os.WriteFile(path, random(3*mib), 0o600))
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			require.NoError(t, err)
			defer func() { require.NoError(t, f.Close()) }()
			image := open(t, "file://"+path, options(newClock()))
			_, err = image.Read(t.Context(), make([]byte, 100))
			require.NoError(t, err)
			require.NoError(t, change(f))
			_, err = readAll(t.Context(), image, 64<<10)
			var e *source.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, source.SourceUnstable, e.Reason())
			require.True(t, e.StartOver())
		})
	}
}
