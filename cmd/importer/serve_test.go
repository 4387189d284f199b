package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/exporter"
	"github.com/gild-project/gild/pkg/importer"
)

// servedDisk is a disk of size bytes, of which half, at both ends and in the middle, hold data, and the
// directory of its volume.
func servedDisk(t *testing.T, size int) (dir string, disk []byte) {
	t.Helper()
	dir, disk = t.TempDir(), make([]byte, size)
	f, err := os.Create(filepath.Join(dir, "disk.img"))
	require.NoError(t, err)
	require.NoError(t, f.Truncate(int64(len(disk))))
	for n, run := range [][2]int{{0, size / 16 * 3}, {size/32*13 + 4096, size / 32 * 23}, {size - 512, size}} {
		noise(disk[run[0]:run[1]], byte(5+n))
		_, err := f.WriteAt(disk[run[0]:run[1]], int64(run[0]))
		require.NoError(t, err)
	}
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	return dir, disk
}

// serveFiles writes what `importer serve` and its reader need: certificate, key and token.
func serveFiles(dir string, s *site) error {
	key, err := x509.MarshalPKCS8PrivateKey(s.secure.TLS.Certificates[0].PrivateKey)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"serve/tls.key":      pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"serve/ca/tls.crt":   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.secure.Certificate().Raw}),
		"serve/secret/token": []byte(canary + "-0123456789\n"),
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// copying is a volume that is served, and those who copy it.
type copying struct {
	t          *testing.T
	files      string
	url        string
	checkpoint string
}

func newCopying(t *testing.T) *copying {
	t.Helper()
	c := &copying{t: t, files: t.TempDir(), checkpoint: filepath.Join(t.TempDir(), "checkpoint")}
	require.NoError(t, serveFiles(c.files, newSite(t, makeImages(t))))
	return c
}

// serve exports target until the function it returns is called.
func (c *copying) serve(target string) (stop func()) {
	c.t.Helper()
	e, err := exporter.Open(exporter.Options{
		Target: target, Listen: "127.0.0.1:0", Certificate: filepath.Join(c.files, "serve", "ca", "tls.crt"), Key: filepath.Join(c.files, "serve", "tls.key"),
		TokenFile: filepath.Join(c.files, "serve", "secret", "token"), Revision: "golden-1", Idle: time.Hour, Connections: 8,
	}, exporter.System())
	require.NoError(c.t, err)
	l, err := e.Listen(c.t.Context())
	require.NoError(c.t, err)
	c.url = "https://" + l.Addr().String() + "/disk"
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Serve(ctx, l) }()
	return func() {
		cancel()
		require.NoError(c.t, <-ended)
		require.NoError(c.t, e.Close())
	}
}

// run copies to target as the populator's Job does. stopped is the first text on stdout after which
// the importer is told to stop, empty for none.
func (c *copying) run(target, stopped string, flags ...string) (importer.Result, string) {
	c.t.Helper()
	var o importer.Options
	set := pflag.NewFlagSet("importer", pflag.ContinueOnError)
	o.BindFlags(set)
	require.NoError(c.t, set.Parse(append([]string{
		"--source=" + c.url, "--target=" + target, "--source-format=raw", "--progress=json", "--checkpoint=" + c.checkpoint,
		"--secret-dir=" + filepath.Join(c.files, "serve", "secret"), "--ca-dir=" + filepath.Join(c.files, "serve", "ca"),
	}, flags...)))
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	out := &listener{stop: stopped, cancel: cancel}
	parts := wire(o)
	parts.Stdout, parts.Stderr, parts.CheckpointBytes = out, io.Discard, 4*mib
	result, _ := importer.Run(ctx, o, parts)
	return result, out.String()
}

// listener calls cancel as soon as it hears stop.
type listener struct {
	bytes.Buffer
	stop   string
	cancel context.CancelFunc
}

// Write implements io.Writer. The reporter makes one call at a time.
func (l *listener) Write(p []byte) (int, error) {
	if l.stop != "" && bytes.Contains(p, []byte(l.stop)) {
		l.cancel()
	}
	return l.Buffer.Write(p)
}

func TestServedVolumeIsCopied(t *testing.T) {
	dir, disk := servedDisk(t, 32*mib)
	c := newCopying(t)
	defer c.serve(dir)()
	// What has data, in the pieces of the importer, its first bytes and its last.
	const data = 8*mib + 12*mib + 4*mib + 2*mib
	for name, target := range map[string]struct {
		device bool
		flags  []string
		all    bool
	}{
		"file":                    {},
		"device":                  {device: true},
		"grown":                   {flags: []string{"--target-size=40Mi"}},
		"a format to be found":    {flags: []string{"--source-format=auto"}, all: true},
		"with a digest":           {flags: []string{"--digest"}, all: true},
		"with a checksum, device": {device: true, flags: []string{"--checksum=sha256:" + sum(disk)}, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			place := newPlace(t, target.device, 40*mib)
			result, out := c.run(place.target, "", target.flags...)
			require.Equal(t, importer.Imported, result.Reason, out)
			place.requireDisk(t, disk)
			if target.all {
				require.GreaterOrEqual(t, result.TransferredBytes, int64(len(disk)))
			} else {
				require.LessOrEqual(t, result.TransferredBytes, int64(data))
			}
			require.Regexp(t, `^"golden-1-`, result.ETag)
			require.NotContains(t, out, canary)
		})
	}
	t.Run("too large", func(t *testing.T) {
		place := newPlace(t, true, 8*mib)
		result, _ := c.run(place.target, "")
		require.Equal(t, importer.TooLarge, result.Reason, "holes make no disk smaller")
	})
	t.Run("without the token", func(t *testing.T) {
		require.NoError(t, os.WriteFile(filepath.Join(c.files, "serve", "secret", "token"), []byte("another-token-0123"), 0o600))
		result, _ := c.run(newPlace(t, false, 0).target, "")
		require.Equal(t, importer.AuthenticationFailed, result.Reason)
	})
}

// stoppable is the size of a disk whose copy can be stopped: the importer has 24 MiB under way when it makes its
// first checkpoint, and this one has more data.
const stoppable = 64 * mib

// TestCopyOfAServedVolumeGoesOn stops the importer in the middle, and its exporter with it.
func TestCopyOfAServedVolumeGoesOn(t *testing.T) {
	dir, disk := servedDisk(t, stoppable)
	for _, device := range []bool{false, true} {
		c := newCopying(t)
		place := newPlace(t, device, 80*mib)
		stop := c.serve(dir)
		result, out := c.run(place.target, `"offset":`)
		require.Equal(t, importer.Interrupted, result.Reason, out)
		stop()
		stop = c.serve(dir)
		result, out = c.run(place.target, "")
		stop()
		require.Equal(t, importer.Imported, result.Reason, out)
		require.Contains(t, out, "going on at")
		require.NotContains(t, out, "starting at the first byte")
		place.requireDisk(t, disk)
	}
}

// TestCopyBeginsAnewWhenTheVolumeWasWritten: bytes of two states of a disk would be neither.
func TestCopyBeginsAnewWhenTheVolumeWasWritten(t *testing.T) {
	dir, disk := servedDisk(t, stoppable)
	c := newCopying(t)
	place := newPlace(t, false, 0)
	stop := c.serve(dir)
	result, out := c.run(place.target, `"offset":`)
	require.Equal(t, importer.Interrupted, result.Reason, out)
	f, err := os.OpenFile(filepath.Join(dir, "disk.img"), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("a virtual machine was here"), 100)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	copy(disk[100:], "a virtual machine was here")
	result, out = c.run(place.target, "")
	stop()
	require.Equal(t, importer.Imported, result.Reason, out)
	require.Contains(t, out, "starting at the first byte: the checkpoint is of another import: its ETag")
	place.requireDisk(t, disk)
}

// TestDocsOfServe keeps the flags in docs/importer.md true.
func TestDocsOfServe(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "importer.md"))
	require.NoError(t, err)
	story, err := os.ReadFile(filepath.Join("testdata", "serve.txtar"))
	require.NoError(t, err)
	_, help, found := strings.Cut(string(story), "-- help.txt --\n")
	require.True(t, found)
	require.Contains(t, string(doc), help, "the flags must be those of importer serve -h")
}
