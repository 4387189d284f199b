package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/importer"
)

// often is the importer with a checkpoint after each piece.
func often() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	code := run(ctx, os.Args[1:], func(o importer.Options) importer.Parts {
		parts := wire(o)
		parts.CheckpointBytes = 1
		return parts
	})
	stop()
	os.Exit(code)
}

// dam is a server of one image that lets only so many bytes through.
type dam struct {
	*httptest.Server

	mu     sync.Mutex
	image  []byte
	etag   string
	served int64
	limit  int64
	opened chan struct{}
}

func newDam(t *testing.T, image []byte) *dam {
	t.Helper()
	d := &dam{image: image, etag: `"one"`, opened: make(chan struct{})}
	d.Server = httptest.NewServer(d)
	t.Cleanup(func() {
		d.CloseClientConnections()
		d.Close()
	})
	d.open(-1)
	return d
}

// open lets n bytes more through, -1 for all, and returns how many came through before.
func (d *dam) open(n int64) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.served
	d.served, d.limit = 0, n
	close(d.opened)
	d.opened = make(chan struct{})
	return before
}

// ease lets a little more through when nothing passes any more: on a busy machine a connection that others
// have overtaken may hold the first bytes that are missing.
func (d *dam) ease() {
	d.mu.Lock()
	defer d.mu.Unlock()
	const drop = 256 << 10
	if d.limit < 0 || d.limit-d.served > drop {
		return
	}
	d.limit += drop
	close(d.opened)
	d.opened = make(chan struct{})
}

// passed is how many bytes came through since it was opened.
func (d *dam) passed() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.served
}

// serves changes the image.
func (d *dam) serves(image []byte, etag string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.image, d.etag = image, etag
}

func (d *dam) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	image := d.image
	w.Header().Set("ETag", d.etag)
	d.mu.Unlock()
	http.ServeContent(&sluice{w, d, r.Context()}, r, "", time.Time{}, bytes.NewReader(image))
}

// pass waits until n bytes may pass.
func (d *dam) pass(ctx context.Context, n int64) error {
	for {
		d.mu.Lock()
		opened := d.opened
		if d.limit < 0 || d.served+n <= d.limit {
			d.served += n
			d.mu.Unlock()
			return nil
		}
		d.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type sluice struct {
	http.ResponseWriter
	dam *dam
	ctx context.Context
}

func (s *sluice) Write(p []byte) (int, error) {
	if err := s.dam.pass(s.ctx, int64(len(p))); err != nil {
		return 0, err
	}
	return s.ResponseWriter.Write(p)
}

// place is where an import goes: a file, or a device full of old bytes.
type place struct {
	target string
	device bool
}

// unfinished is the file that holds what was written.
func (p place) unfinished() string {
	if p.device {
		return p.target
	}
	return p.target + ".partial"
}

// overwrite puts b on it in place of all that is there.
func (p place) overwrite(t *testing.T, b []byte) {
	t.Helper()
	f, err := os.OpenFile(p.unfinished(), os.O_WRONLY|os.O_SYNC, 0)
	require.NoError(t, err)
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// requireDisk wants exactly the disk on it, and zeros behind.
func (p place) requireDisk(t *testing.T, want []byte) {
	t.Helper()
	f, err := os.Open(p.target)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	// In parts: the race detector makes large buffers dear.
	part, zeros := make([]byte, mib), make([]byte, mib)
	for off := 0; ; {
		n, err := io.ReadFull(f, part)
		data := min(n, len(want)-min(off, len(want)))
		require.True(t, bytes.Equal(want[min(off, len(want)):][:data], part[:data]), "another disk")
		require.True(t, bytes.Equal(zeros[data:n], part[data:n]), "old bytes survive")
		off += n
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			require.GreaterOrEqual(t, off, len(want))
			return
		}
		require.NoError(t, err)
	}
}

func newPlace(t *testing.T, device bool, size int) place {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if !device {
		return place{target: path}
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root for loop devices")
	}
	old, err := os.Create(path)
	require.NoError(t, err)
	for ones := bytes.Repeat([]byte{0xff}, mib); size > 0; size -= mib {
		_, err := old.Write(ones[:min(size, mib)])
		require.NoError(t, err)
	}
	require.NoError(t, old.Close())
	out, err := exec.CommandContext(t.Context(), "losetup", "-f", "--show", path).Output()
	require.NoError(t, err)
	name := strings.TrimSpace(string(out))
	t.Cleanup(func() { require.NoError(t, exec.Command("losetup", "-d", name).Run()) })
	return place{target: name, device: true}
}
