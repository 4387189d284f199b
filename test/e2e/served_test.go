//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/test/imageserver/disk"
	"github.com/gild-project/gild/test/imageserver/server"
)

const mib = int64(1) << 20

// image is a disk and the file that it is served as.
type image struct {
	disk disk.Disk
	// file is how it is served.
	file server.File
	// length of the file in bytes.
	length int64
}

// served is a file on the image server.
type served struct {
	f    *fixture
	name string
	URL  string
}

// Disk makes a disk of its own for the test.
func (f *fixture) Disk(size int64) disk.Disk {
	hash := fnv.New64()
	_, _ = hash.Write([]byte(f.Name()))
	return disk.Disk{Seed: hash.Sum64(), Size: size}
}

// Raw is a raw image of size bytes.
func (f *fixture) Raw(size int64) image {
	d := f.Disk(size)
	return image{disk: d, file: server.File{Disk: &d}, length: size}
}

// Qcow2 is the same as a qcow2 image.
func (f *fixture) Qcow2(size int64) image {
	f.Helper()
	d := f.Disk(size)
	return f.Uploaded(d, f.convert(d, "qcow2"))
}

// Uploaded is the disk as a file with that content.
func (f *fixture) Uploaded(d disk.Disk, content []byte) image {
	f.Helper()
	return image{disk: d, file: server.File{Blob: f.Upload("disk", content)}, length: int64(len(content))}
}

// convert is the disk in a format, made by qemu-img with options of its own.
func (f *fixture) convert(d disk.Disk, format string, options ...string) []byte {
	f.Helper()
	dir := f.TempDir()
	raw, made := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "disk."+format)
	file, err := os.Create(raw)
	require.NoError(f, err)
	_, err = file.ReadFrom(d.NewReader())
	require.NoError(f, err)
	require.NoError(f, file.Close())
	if format != "raw" {
		f.qemuImg(append(append([]string{"convert", "-f", "raw", "-O", format}, options...), raw, made)...)
	}
	content, err := os.ReadFile(made)
	require.NoError(f, err)
	return content
}

// pack is content compressed by a program.
func (f *fixture) pack(program string, content []byte) []byte {
	f.Helper()
	command := exec.CommandContext(f.ctx, program, "-1")
	command.Stdin = bytes.NewReader(content)
	stream, err := output(command)
	require.NoError(f, err, "the tests need %s", program)
	return []byte(stream)
}

// qemuImg runs qemu-img and returns its output.
func (f *fixture) qemuImg(args ...string) string {
	f.Helper()
	text, err := output(exec.CommandContext(f.ctx, "qemu-img", args...))
	require.NoError(f, err, "the tests need qemu-img: install qemu-utils")
	return text
}

// SHA256 is the digest of the disk in hexadecimal.
func (f *fixture) SHA256(d disk.Disk) string {
	f.Helper()
	sum, err := d.SHA256()
	require.NoError(f, err)
	return sum
}

// Upload puts content on the image server and returns the blob's name.
func (f *fixture) Upload(name string, content []byte) string {
	f.Helper()
	name = f.namespace + "-" + fmt.Sprint(time.Now().UnixNano()) + "-" + name
	_, err := f.callWeb(f.ctx, http.MethodPut, "/control/blobs/"+name, content)
	require.NoError(f, err)
	return name
}

// Serve publishes a file under a name of the test's own.
func (f *fixture) Serve(name string, file server.File) *served {
	f.Helper()
	s := &served{f: f, name: f.namespace + "/" + name}
	s.URL = s.On(f.host)
	s.Publish(file)
	return s
}

// On is the URL of the file on another host name of the image server.
func (s *served) On(host string) string {
	return fmt.Sprintf("http://%s:%d/files/%s", host, httpPort, s.name)
}

// TLS is the URL of the file over https.
func (s *served) TLS() string {
	return fmt.Sprintf("https://%s:%d/files/%s", s.f.host, httpsPort, s.name)
}

// Publish serves file in place of what was served before. Connections that are held go on with
// the old one.
func (s *served) Publish(file server.File) {
	s.f.Helper()
	description, err := json.Marshal(file)
	require.NoError(s.f, err)
	_, err = s.f.callWeb(s.f.ctx, http.MethodPut, "/control/files/"+s.name, description)
	require.NoError(s.f, err)
}

// Requests are what the image server was asked for the file so far.
func (s *served) Requests() []server.Request {
	s.f.Helper()
	requests, err := s.requests(s.f.ctx)
	require.NoError(s.f, err)
	return requests
}

func (s *served) requests(ctx context.Context) ([]server.Request, error) {
	answer, err := s.f.callWeb(ctx, http.MethodGet, "/control/requests/"+s.name, nil)
	if err != nil {
		return nil, err
	}
	var requests []server.Request
	err = json.NewDecoder(bytes.NewReader(answer)).Decode(&requests)
	return requests, err
}

// Bytes is how many bytes of bodies the image server has sent for the file so far.
func (s *served) Bytes() int64 {
	s.f.Helper()
	return bytesOf(s.Requests())
}

func bytesOf(requests []server.Request) int64 {
	var sum int64
	for _, request := range requests {
		sum += request.Bytes
	}
	return sum
}

// WaitServed waits until at least n bytes were sent for the file.
func (s *served) WaitServed(n int64) {
	s.f.Helper()
	s.f.Eventually("bytes served", importWithin, func(ctx context.Context) (bool, string, error) {
		requests, err := s.requests(ctx)
		sum := bytesOf(requests)
		return sum >= n, fmt.Sprintf("%d of %d bytes in %d requests", sum, n, len(requests)), err
	})
}

// Held is file with a stop when half of it is served, where it stays until it is published again.
func (i image) Held() server.File {
	file := i.file
	file.HoldAfter = i.length / 2
	return file
}
