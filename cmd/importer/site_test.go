package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

const (
	mib = 1 << 20
	// canary is in every secret and every query of these tests, and in no message.
	canary = "canary"
)

// site is a real server with images and faults. The first part of a path names the fault, the
// last one the image: /cut-1000000/disk.raw.
type site struct {
	*httptest.Server
	secure *httptest.Server
	// elsewhere is another port: another host as far as secrets go.
	elsewhere *httptest.Server

	images map[string][]byte
	etags  map[string]string

	mu   sync.Mutex
	hits map[string]int
	// broken are the paths whose one cut was made.
	broken map[string]bool
	// leaked are requests elsewhere that brought a secret.
	leaked []string
}

// disk is a bootable looking raw disk of 8 MiB with data, text and holes.
func disk() []byte {
	b := make([]byte, 8*mib)
	noise(b[:440], 2)
	b[510], b[511] = 0x55, 0xaa
	noise(b[mib:3*mib+70000], 3)
	copy(b[4*mib:], strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 6000))
	noise(b[len(b)-512:], 4)
	return b
}

// noise fills b, which is zero, with what looks random. It is AES in counter mode: the race detector does
// not slow down its assembly.
func noise(b []byte, seed byte) {
	if key, err := aes.NewCipher(bytes.Repeat([]byte{seed}, 16)); err == nil {
		cipher.NewCTR(key, make([]byte, aes.BlockSize)).XORKeyStream(b, b)
	}
}

func iso() []byte {
	b := make([]byte, mib+2048)
	copy(b[32769:], "CD001")
	copy(b[len(b)-5:], "end")
	return b
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// made are the images, made once for all tests.
var made struct {
	sync.Once

	images map[string][]byte
}

// makeImages returns the images by name. qemu-img makes those in qcow2; without it they are
// missing, and the tests that need them are skipped.
func makeImages(t *testing.T) map[string][]byte {
	t.Helper()
	made.Do(func() { made.images = makeImagesAnew(t) })
	require.NotEmpty(t, made.images)
	return maps.Clone(made.images)
}

func makeImagesAnew(t *testing.T) map[string][]byte {
	t.Helper()
	images := map[string][]byte{
		"disk.raw": disk(), "other.raw": append([]byte("other"), disk()[5:6*mib]...), "disk.iso": iso(), "odd.raw": disk()[:mib+77], "empty.raw": nil,
		"login.html": []byte("<!DOCTYPE html><html><body>Please log in</body></html>"),
		"bad.vmdk":   append([]byte("KDMV"), make([]byte, 4096)...),
		"bad.gz":     append([]byte("\x1f\x8b\x08"), make([]byte, 7)...),
		"disk.zip":   append([]byte("PK\x03\x04"), make([]byte, 4096)...),
		"bad.vhd":    append(disk(), append([]byte("conectix"), make([]byte, 504)...)...),
	}
	packed := gzipped(t, images["disk.raw"])
	images["disk.raw.gz"], images["cut.gz"], images["twice.gz"] = packed, packed[:len(packed)-1], gzipped(t, packed)
	images["disk.raw.zst"] = zstandard(t, images["disk.raw"])
	if !haveQemu() {
		return images
	}
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	require.NoError(t, os.WriteFile(raw, images["disk.raw"], 0o600))
	for name, args := range map[string][]string{
		"disk.qcow2":     {"convert", "-f", "raw", "-O", "qcow2", raw, "OUT"},
		"zlib.qcow2":     {"convert", "-c", "-f", "raw", "-O", "qcow2", raw, "OUT"},
		"zstd.qcow2":     {"convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd", raw, "OUT"},
		"backing.qcow2":  {"create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", "OUT"},
		"datafile.qcow2": {"create", "-q", "-f", "qcow2", "-o", "data_file=" + filepath.Join(dir, "data"), "OUT", "8M"},
		"stream.vmdk":    {"convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, "OUT"},
		"sparse.vmdk":    {"convert", "-f", "raw", "-O", "vmdk", raw, "OUT"},
		"disk.vhdx":      {"convert", "-f", "raw", "-O", "vhdx", raw, "OUT"},
		"disk.vdi":       {"convert", "-f", "raw", "-O", "vdi", raw, "OUT"},
		"dynamic.vhd":    {"convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", raw, "OUT"},
		"fixed.vhd":      {"convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size=on", raw, "OUT"},
		"huge.qcow2":     {"create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "OUT", "1E"},
	} {
		path := filepath.Join(dir, name)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "OUT", path)
		}
		out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
		require.NoError(t, err, "%s: %s", name, out)
		images[name], err = os.ReadFile(path)
		require.NoError(t, err)
	}
	images["late.qcow2"] = late(t, filepath.Join(dir, "late.qcow2"))
	for _, name := range []string{"disk.qcow2", "late.qcow2", "disk.vhdx", "stream.vmdk", "fixed.vhd"} {
		images[name+".gz"] = gzipped(t, images[name])
	}
	whole := images["zlib.qcow2"]
	for i, length := range []int{3, 100, 512, 70000, 200000, len(whole) / 2, len(whole) - 100000, len(whole) - 1} {
		images[fmt.Sprintf("cut%d.qcow2", i)] = whole[:length]
	}
	return images
}

// gzipped packs b by the program: Go's writer takes minutes under the race detector.
func gzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	gzip := exec.CommandContext(t.Context(), "gzip", "-1", "-c")
	gzip.Stdin = bytes.NewReader(b)
	packed, err := gzip.Output()
	require.NoError(t, err)
	return packed
}

func zstandard(t *testing.T, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, w.Close()) }()
	return w.EncodeAll(b, nil)
}

// late is a qcow2 image with 40 MiB of data before its first table: growing the disk moved it.
func late(t *testing.T, path string) []byte {
	t.Helper()
	for _, command := range [][]string{
		{"qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "1G"},
		{"qemu-io", "-f", "qcow2", "-c", "write -q -P 0x47 1M 40M", path},
		{"qemu-img", "resize", "-q", "-f", "qcow2", path, "2G"},
	} {
		out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	image, err := os.ReadFile(path)
	require.NoError(t, err)
	return image
}

func newSite(t *testing.T, images map[string][]byte) *site {
	t.Helper()
	s := &site{images: images, etags: map[string]string{}, hits: map[string]int{}, broken: map[string]bool{}}
	s.Server = httptest.NewServer(s)
	s.secure = httptest.NewUnstartedServer(s)
	s.secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.secure.StartTLS()
	s.elsewhere = httptest.NewServer(http.HandlerFunc(s.serveElsewhere))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		s.secure.Close()
		s.elsewhere.Close()
	})
	return s
}

func haveQemu() bool {
	_, err := exec.LookPath("qemu-img")
	return err == nil
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, name, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !found {
		fault, name = "", fault
	}
	s.mu.Lock()
	n := s.hits[r.URL.Path]
	s.hits[r.URL.Path]++
	body, known := s.images[name]
	if known && s.etags[name] == "" {
		s.etags[name] = `"` + sum(body)[:16] + `"`
	}
	etag := s.etags[name]
	s.mu.Unlock()
	if !known {
		http.NotFound(w, r)
		return
	}
	kind, argument, _ := strings.Cut(fault, "-")
	number, _ := strconv.Atoi(argument)
	w.Header().Set("ETag", etag)
	if strings.HasSuffix(name, ".html") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
	}
	serve := func(w http.ResponseWriter) {
		http.ServeContent(w, r, "", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), bytes.NewReader(body))
	}
	switch kind {
	case "status":
		w.WriteHeader(number)
	case "busy": // twice
		if n < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		serve(w)
	case "later":
		w.Header().Set("Retry-After", argument)
		w.WriteHeader(http.StatusTooManyRequests)
	case "cut": // every answer after so many bytes
		serve(&cutWriter{ResponseWriter: w, left: number})
	case "once": // the first answer that reaches this byte of the image, but for the look at its end
		first, last := 0, len(body)-1
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
		s.mu.Lock()
		cut := !s.broken[r.URL.Path] && first <= number && number <= last && last-first >= 512
		s.broken[r.URL.Path] = s.broken[r.URL.Path] || cut
		s.mu.Unlock()
		if cut {
			serve(&cutWriter{ResponseWriter: w, left: number - first})
			return
		}
		serve(w)
	case "busytail": // the first look at the end
		if strings.HasSuffix(r.Header.Get("Range"), fmt.Sprintf("-%d", len(body)-1)) && s.firstTail(r.URL.Path) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		serve(w)
	case "weak": // the first whole image, after so many bytes, and never a strong validator
		w.Header().Set("ETag", `W/"x"`)
		if n == 1 {
			serve(&cutWriter{ResponseWriter: w, left: number})
			return
		}
		serve(w)
	case "replaced": // cut, and then another image
		if n == 0 {
			serve(&cutWriter{ResponseWriter: w, left: number})
			return
		}
		body = s.images["other.raw"]
		w.Header().Set("ETag", `"replaced"`)
		serve(w)
	case "flapping": // another image at every request
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
		serve(&cutWriter{ResponseWriter: w, left: number})
	case "trickle": // chunks without a length, and then silence
		s.endless(w, body, int64(number))
		<-r.Context().Done()
	case "chunked":
		s.endless(w, body, int64(len(body)))
	case "endless":
		s.endless(w, body, 1<<62)
	case "claims": // a length that it never sends
		w.Header().Set("Content-Length", argument)
		_, _ = w.Write(body[:min(len(body), 100000)])
		<-r.Context().Done()
	case "stall":
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:min(len(body), number)])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	case "unframed":
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			_, _ = conn.Write(body)
			_ = conn.Close()
		}
	case "auth":
		user, password, _ := r.BasicAuth()
		if (user != "user" || password != "pw-"+canary) && r.Header.Get("Authorization") != "Bearer token-"+canary {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		serve(w)
	case "away":
		http.Redirect(w, r, s.elsewhere.URL+"/"+name+"?sig="+canary, http.StatusFound)
	case "metadata":
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data?sig="+canary, http.StatusFound)
	case "", "plain":
		serve(w)
	default:
		w.WriteHeader(http.StatusTeapot)
	}
}

// firstTail tells once that a path was not broken yet.
func (s *site) firstTail(path string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.broken[path]
	s.broken[path] = true
	return first
}

// endless sends the body again and again, in chunks, without a length.
func (s *site) endless(w http.ResponseWriter, body []byte, length int64) {
	for length > 0 {
		n, err := w.Write(body[:min(int64(len(body)), length)])
		if err != nil {
			return
		}
		length -= int64(n)
		_ = http.NewResponseController(w).Flush()
	}
}

func (s *site) serveElsewhere(w http.ResponseWriter, r *http.Request) {
	header := fmt.Sprint(r.Header)
	if strings.Contains(header, canary) {
		s.mu.Lock()
		s.leaked = append(s.leaked, header)
		s.mu.Unlock()
	}
	s.ServeHTTP(w, r)
}

// count is how often a path was asked for.
func (s *site) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[path]
}

// cutWriter resets the connection after some bytes of the body.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) < w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	controller := http.NewResponseController(w.ResponseWriter)
	_ = controller.Flush()
	conn, _, err := controller.Hijack()
	if err != nil {
		return 0, err
	}
	_ = conn.Close()
	return 0, net.ErrClosed
}
