package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/source"
)

// fakeClock waits without waiting and remembers for how long.
type fakeClock struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	c.waits = append(c.waits, d)
	return ctx.Err()
}

// runImporter runs the whole importer in this process, with short timers and a fake clock.
func runImporter(t *testing.T, o importer.Options) (importer.Result, string, *fakeClock) {
	t.Helper()
	return runStalling(t, o, 50*time.Millisecond)
}

func runStalling(t *testing.T, o importer.Options, stall time.Duration) (importer.Result, string, *fakeClock) {
	t.Helper()
	return runChanged(t, o, stall, func(*importer.Parts) {})
}

func runChanged(t *testing.T, o importer.Options, stall time.Duration, change func(p *importer.Parts)) (importer.Result, string, *fakeClock) {
	t.Helper()
	o.SourceFormat, o.Content, o.Progress = importer.FormatAuto, importer.ContentAuto, importer.ProgressJSON
	if o.TargetFormat == "" {
		o.TargetFormat = importer.FormatRaw
	}
	before := goleak.IgnoreCurrent()
	clock := &fakeClock{now: time.Now()}
	parts := wire(o)
	var out bytes.Buffer
	parts.Stdout, parts.Stderr, parts.Clock = &out, &out, clock
	parts.OpenSource = func(ctx context.Context, opening importer.Opening) (importer.Source, error) {
		return source.Open(ctx, o.Source, source.Options{
			Notice: opening.Notice, Clock: clock, Jitter: func() float64 { return 0 }, StallTimeout: stall,
			Pin: source.Revision{ETag: o.Pin.ETag, LastModified: o.Pin.LastModified, Length: o.Pin.Length},
		})
	}
	change(&parts)
	result, err := importer.Run(t.Context(), o, parts)
	require.Equal(t, err == nil, result.Reason == importer.Imported)
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	for _, line := range lines[:len(lines)-1] {
		_, err := importer.ParseProgress(line)
		require.NoError(t, err, "%s", line)
	}
	last, err := importer.ParseResult(lines[len(lines)-1])
	require.NoError(t, err)
	require.Equal(t, result.Reason, last.Reason)
	goleak.VerifyNone(t, before)
	return result, out.String(), clock
}

func TestSourceThatAlwaysChanges(t *testing.T) {
	s := newSite(t, makeImages(t))
	dir := t.TempDir()
	result, out, clock := runImporter(t, importer.Options{Source: s.URL + "/flapping-3000000/disk.raw", Target: dir})
	require.Equal(t, importer.SourceUnstable, result.Reason)
	require.Contains(t, out, "giving up after starting over 5 times")
	var waits []time.Duration
	for _, d := range clock.waits {
		waits = append(waits, d/time.Second)
	}
	// Each pass finds another image behind its first piece.
	require.Equal(t, []time.Duration{1, 2, 4, 8, 16}, waits)
	requireEmpty(t, dir)
}

func TestSourceThatNeverResumes(t *testing.T) {
	s := newSite(t, makeImages(t))
	dir := t.TempDir()
	result, out, _ := runImporter(t, importer.Options{Source: s.URL + "/stall-3000000/disk.raw", Target: dir})
	require.Equal(t, importer.ConnectionFailed, result.Reason)
	require.Contains(t, out, "Stalled")
	// A busy machine may take the connection for stalled before all of it came.
	require.Greater(t, result.TransferredBytes, int64(2*3000000), "what each try fetched is counted")
	require.LessOrEqual(t, result.TransferredBytes, int64(6*3000000))
	requireEmpty(t, dir)
}

func TestTargetThatFailsWhileTheSourceIsSilent(t *testing.T) {
	s := newSite(t, makeImages(t))
	result, _, _ := runStalling(t, importer.Options{Source: s.URL + "/trickle-2097152/disk.raw", Target: t.TempDir(), TargetSize: 512}, time.Hour)
	require.Equal(t, importer.TooLarge, result.Reason)
}

func TestServerErrorIsTransient(t *testing.T) {
	s := newSite(t, makeImages(t))
	result, _, clock := runImporter(t, importer.Options{Source: s.URL + "/status-500/disk.raw", Target: t.TempDir()})
	require.Equal(t, importer.ServerError, result.Reason)
	require.Equal(t, importer.ExitTransient, result.Reason.ExitCode())
	require.Len(t, clock.waits, 11)
}

func TestPinnedSourceIsNeverTakenInAnotherRevision(t *testing.T) {
	images := makeImages(t)
	s := newSite(t, images)
	dir := t.TempDir()
	etag := `"` + sum(images["disk.raw"])[:16] + `"`
	result, _, _ := runImporter(t, importer.Options{Source: s.URL + "/replaced-3000000/disk.raw", Target: dir, Pin: importer.Pin{ETag: etag}})
	require.Equal(t, importer.SourceChanged, result.Reason)
	require.Equal(t, importer.ExitVerification, result.Reason.ExitCode())
	requireEmpty(t, dir)
}

func TestCutEverywhere(t *testing.T) {
	images := makeImages(t)
	size := len(images["disk.raw"])
	for _, at := range []int{size / 100, size / 2, size / 100 * 99, size - 1} {
		s := newSite(t, images)
		dir := t.TempDir()
		result, _, _ := runImporter(t, importer.Options{Source: fmt.Sprintf("%s/once-%d/disk.raw", s.URL, at), Target: dir, Checksum: "sha256:" + sum(images["disk.raw"])})
		require.Equal(t, importer.Imported, result.Reason, result.Message)
		got, err := os.ReadFile(filepath.Join(dir, "disk.img"))
		require.NoError(t, err)
		require.Equal(t, sum(images["disk.raw"]), sum(got))
		require.EqualValues(t, size+512, result.TransferredBytes)
	}
}

// TestEveryWayOfAnImage is for the race detector, which the stories run without.
func TestEveryWayOfAnImage(t *testing.T) {
	images := makeImages(t)
	s := newSite(t, images)
	for _, format := range []string{importer.FormatRaw, importer.FormatQcow2} {
		for _, path := range []string{
			"disk.raw", "chunked/disk.raw", "disk.raw.gz", "disk.raw.zst", "zlib.qcow2", "zstd.qcow2", "chunked/zlib.qcow2", "disk.qcow2.gz", "stream.vmdk", "disk.vhdx",
		} {
			t.Run(format+" "+path, func(t *testing.T) {
				if images[filepath.Base(path)] == nil || format == importer.FormatQcow2 && !haveQemu() {
					t.Skip("SKIPPED: needs qemu-img (Debian: qemu-utils)")
				}
				o := importer.Options{Source: s.URL + "/" + path, Target: filepath.Join(t.TempDir(), "disk"), TargetFormat: format, ScratchDir: t.TempDir()}
				result, _, _ := runStalling(t, o, time.Minute)
				require.Equal(t, importer.Imported, result.Reason, result.Message)
				if format == importer.FormatRaw {
					place{target: o.Target}.requireDisk(t, images["disk.raw"])
					return
				}
				raw := filepath.Join(t.TempDir(), "raw")
				out, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-f", "qcow2", "-O", "raw", o.Target, raw).CombinedOutput()
				require.NoError(t, err, "%s", out)
				place{target: raw}.requireDisk(t, images["disk.raw"])
			})
		}
	}
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestNginx imports from the real thing, through a line that breaks every 3 MB.
func TestNginx(t *testing.T) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("SKIPPED: needs nginx (Debian: nginx-light)")
	}
	images := makeImages(t)
	address := startNginx(t, program, images)
	checksum := "sha256:" + sum(images["disk.raw"])

	dir := t.TempDir()
	result, _, _ := runImporter(t, importer.Options{Source: "http://" + address + "/disk.raw", Target: dir, Checksum: checksum})
	require.Equal(t, importer.Imported, result.Reason, result.Message)

	line := breakingLine(t, address, 3000000)
	broken := t.TempDir()
	again, out, clock := runImporter(t, importer.Options{
		Source: "http://" + line + "/disk.raw", Target: broken, Checksum: checksum,
		Pin: importer.Pin{ETag: result.ETag, LastModified: result.LastModified, Length: int64(len(images["disk.raw"]))},
	})
	require.Equal(t, importer.Imported, again.Reason, again.Message)
	require.Contains(t, out, "next try")
	require.NotEmpty(t, clock.waits)
	require.EqualValues(t, len(images["disk.raw"])+512, again.TransferredBytes, "resumed, not repeated, and the end looked at first")
	got, err := os.ReadFile(filepath.Join(broken, "disk.img"))
	require.NoError(t, err)
	require.Equal(t, sum(images["disk.raw"]), sum(got))

	for path, want := range map[string]importer.Reason{"/none": importer.NotFound, "/": importer.AuthenticationFailed, "/login.html": importer.UnexpectedContent, "/empty.raw": importer.EmptySource} {
		result, _, _ := runImporter(t, importer.Options{Source: "http://" + address + path, Target: dir})
		require.Equal(t, want, result.Reason, path)
	}
	result, _, _ = runImporter(t, importer.Options{Source: "http://" + address + "/disk.raw", Target: dir, Pin: importer.Pin{ETag: `"other"`}})
	require.Equal(t, importer.SourceChanged, result.Reason)
}

func startNginx(t *testing.T, program string, images map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	// The worker of nginx may be another user.
	require.NoError(t, os.Chmod(dir, 0o755))
	for name, content := range images {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	configuration := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http {
  access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  types { text/html html; } default_type application/octet-stream;
  server { listen %[2]s; root %[1]s; }
}`, dir, address)
	path := filepath.Join(dir, "nginx.conf")
	require.NoError(t, os.WriteFile(path, []byte(configuration), 0o600))
	command := exec.Command(program, "-c", path, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		require.NoError(t, command.Process.Kill())
		_ = command.Wait()
	})
	require.Eventually(t, func() bool {
		response, err := http.Get("http://" + address + "/disk.raw")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil
	}, 10*time.Second, 20*time.Millisecond)
	http.DefaultClient.CloseIdleConnections()
	return address
}

// breakingLine forwards to address and hangs up after so many bytes of each connection.
func breakingLine(t *testing.T, address string, after int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var connections sync.WaitGroup
	connections.Go(func() {
		for {
			client, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				continue
			}
			connections.Go(func() {
				_, _ = io.Copy(server, client)
				// The client kept the connection for a while and has left.
				_ = server.Close()
			})
			connections.Go(func() {
				_, _ = io.CopyN(client, server, after)
				_ = client.Close()
				_ = server.Close()
			})
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		connections.Wait()
	})
	return listener.Addr().String()
}
