package source_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// nginx serves dir, and returns its address and a reader of its log, whose lines are the method,
// the path, the status and the bytes of the body of one request.
func nginx(t *testing.T, dir string) (address string, asked func() []string) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("SKIPPED: needs nginx (Debian: nginx-light)")
	}
	// The worker of nginx may be another user.
	require.NoError(t, os.Chmod(dir, 0o755))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address = listener.Addr().String()
	require.NoError(t, listener.Close())
	own := t.TempDir()
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/error.log;
events {}
http {
  log_format short "$request_method $uri $status $body_bytes_sent"; access_log %[1]s/access.log short;
  client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  default_type application/octet-stream;
  server {
    listen %[2]s; root %[3]s;
    location /headless/ { alias %[3]s/; if ($request_method = HEAD) { return 403; } }
    location /untagged/ { alias %[3]s/; etag off; }
    location /bare/ { alias %[3]s/; etag off; if_modified_since off; add_header Last-Modified ""; }
    location /moved/ { rewrite ^/moved/(.*)$ http://%[2]s/headless/$1 redirect; }
  }
}`, own, address, dir)
	path := filepath.Join(own, "nginx.conf")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	command := exec.Command(program, "-c", path, "-p", own, "-e", filepath.Join(own, "error.log"))
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		require.NoError(t, command.Process.Kill())
		_ = command.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		return err == nil && conn.Close() == nil
	}, 10*time.Second, 20*time.Millisecond)
	seen := 0
	return address, func() []string {
		log, err := os.ReadFile(filepath.Join(own, "access.log"))
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(string(log)), "\n")
		fresh := lines[seen:]
		seen = len(lines)
		return fresh
	}
}

// TestProbeOfNginx asks a server that others wrote.
func TestProbeOfNginx(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.raw")
	write := func(content []byte, age time.Duration) source.Revision {
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(-age)
		require.NoError(t, os.WriteFile(disk, content, 0o644))
		require.NoError(t, os.Chtimes(disk, at, at))
		return source.Revision{
			ETag: fmt.Sprintf(`"%x-%x"`, at.Unix(), len(content)), LastModified: at.Format("Mon, 02 Jan 2006 15:04:05 GMT"), Length: int64(len(content)),
		}
	}
	first := write(random(5*mib), 0)
	address, asked := nginx(t, dir)
	ask := func(path string, known source.Revision) source.Found {
		found, err := source.Probe(t.Context(), "http://"+address+path+"?sig="+canary, known, options(newClock()))
		require.NoError(t, err)
		return found
	}
	require.Equal(t, source.Found{Revision: first}, ask("/disk.raw", source.Revision{}))
	require.Equal(t, source.Found{Unchanged: true, Revision: first}, ask("/disk.raw", first))
	image := open(t, "http://"+address+"/disk.raw", options(newClock()))
	etag, lastModified := image.Validators()
	require.Equal(t, first, source.Revision{ETag: etag, LastModified: lastModified, Length: image.Size()}, "what an import sees")

	for _, path := range []string{"/headless/disk.raw", "/moved/disk.raw"} {
		require.Equal(t, source.Found{Revision: first}, ask(path, source.Revision{}))
		require.Equal(t, source.Found{Unchanged: true, Revision: first}, ask(path, first))
	}
	untagged := first
	untagged.ETag = ""
	require.Equal(t, source.Found{Revision: untagged}, ask("/untagged/disk.raw", source.Revision{}))
	require.Equal(t, source.Found{Unchanged: true, Revision: untagged}, ask("/untagged/disk.raw", untagged))
	bare := ask("/bare/disk.raw", source.Revision{}).Revision
	require.Empty(t, bare.ETag)

	// The publisher goes back to an older file.
	older := write(random(4*mib), 24*time.Hour)
	require.Equal(t, source.Found{Revision: older}, ask("/disk.raw", first))
	untagged = older
	untagged.ETag = ""
	require.Equal(t, source.Found{Revision: untagged}, ask("/untagged/disk.raw", source.Revision{LastModified: first.LastModified}))

	require.NoError(t, os.Remove(disk))
	require.Equal(t, source.NotFound, unprobed(t, "http://"+address+"/disk.raw?sig="+canary, options(newClock())).Reason())
	// The log is complete when its last line is there.
	var lines []string
	require.Eventually(t, func() bool {
		lines = append(lines, asked()...)
		return strings.HasPrefix(lines[len(lines)-1], "GET /disk.raw 404")
	}, 10*time.Second, 20*time.Millisecond)
	require.Equal(t, []string{"HEAD /disk.raw 200 0", "HEAD /disk.raw 304 0"}, lines[:2])
	for _, line := range lines[3:] {
		method, rest, _ := strings.Cut(line, " ")
		switch {
		case method == "HEAD":
			require.True(t, strings.HasSuffix(rest, " 0"), line)
		case strings.Contains(line, " 206 "):
			require.True(t, strings.HasSuffix(rest, " 206 1"), line)
		case strings.Contains(line, " 304 "):
			require.True(t, strings.HasSuffix(rest, " 304 0"), line)
		}
	}
}
