package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/target"
)

// frail is a server that breaks its first answers, each after 1.25 MiB: 1 MiB is what counts as progress.
type frail struct {
	image []byte

	mu     sync.Mutex
	breaks int
	served int64
}

func (f *frail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	last := len(f.image) - 1
	first := 0
	_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
	cut := f.breaks > 0 && last-first >= 5*mib/4
	if cut {
		f.breaks--
	}
	f.mu.Unlock()
	w.Header().Set("ETag", `"frail"`)
	w = &counted{w, f}
	if cut {
		w = &cutWriter{ResponseWriter: w, left: 5 * mib / 4}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.image))
}

type counted struct {
	http.ResponseWriter
	frail *frail
}

func (c *counted) Write(p []byte) (int, error) {
	c.frail.mu.Lock()
	c.frail.served += int64(len(p))
	c.frail.mu.Unlock()
	return c.ResponseWriter.Write(p)
}

// Unwrap lets a cutWriter find the connection.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestTwentyBreaks(t *testing.T) {
	const breaks = 20
	disk := append(large(5), large(8)...)
	images := map[string][]byte{"raw": disk, "raw.gz": gzipped(t, disk)}
	if haveQemu() {
		images["qcow2"] = asQcow2(t, disk)
		images["qcow2.gz"] = gzipped(t, images["qcow2"])
		images["vmdk"] = asQcow2(t, disk, "-O", "vmdk", "-o", "subformat=streamOptimized")
	}
	for name, image := range images {
		t.Run(name, func(t *testing.T) {
			f := &frail{image: image, breaks: breaks}
			server := httptest.NewServer(f)
			defer server.Close()
			path := filepath.Join(t.TempDir(), "disk")
			result, _, _ := runStalling(t, importer.Options{Source: server.URL, Target: path}, time.Minute)
			require.Equal(t, importer.Imported, result.Reason, result.Message)
			require.Zero(t, f.breaks)
			require.LessOrEqual(t, f.served, int64(len(image))+breaks*8*mib)
			place{target: path}.requireDisk(t, disk)
		})
	}
}

// fullSoon is a volume that somebody else fills up but for room bytes, after the importer looked at it.
func fullSoon(t *testing.T, room int) (dir string, change func(*importer.Parts)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount small file systems")
	}
	dir = t.TempDir()
	require.NoError(t, unix.Mount("gild-test", dir, "tmpfs", 0, "size=64m"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount(dir, 0)) })
	return dir, func(p *importer.Parts) {
		p.OpenTarget = func(path string) (importer.Target, error) {
			opened, err := target.Open(path)
			if err != nil {
				return nil, err
			}
			f, err := os.Create(filepath.Join(dir, "other"))
			if err != nil {
				return nil, err
			}
			return opened, errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, int64(64*mib-room)), f.Close())
		}
	}
}

func TestVolumeThatIsFullInBetween(t *testing.T) {
	images := makeImages(t)
	images["large.raw"] = large(7)
	images["large.raw.gz"] = gzipped(t, images["large.raw"])
	if haveQemu() {
		images["large.qcow2"] = asQcow2(t, images["large.raw"])
		images["large.qcow2.gz"] = gzipped(t, images["large.qcow2"])
		images["large.vmdk"] = asQcow2(t, images["large.raw"], "-O", "vmdk", "-o", "subformat=streamOptimized")
	}
	s := newSite(t, images)
	sources := []string{"/disk.raw", "/chunked/disk.raw", "/disk.raw.gz", "/disk.qcow2", "/zlib.qcow2", "/chunked/disk.qcow2", "/disk.qcow2.gz", "/stream.vmdk", "/disk.vhdx"}
	// The volume is full while nothing more comes.
	for _, name := range []string{"large.raw", "large.raw.gz", "large.qcow2", "large.qcow2.gz", "large.vmdk"} {
		sources = append(sources, fmt.Sprintf("/trickle-%d/%s", 20*mib, name))
	}
	for _, source := range sources {
		t.Run(source, func(t *testing.T) {
			if images[filepath.Base(source)] == nil {
				t.Skip("SKIPPED: needs qemu-img (Debian: qemu-utils)")
			}
			dir, change := fullSoon(t, 256<<10)
			result, _, _ := runChanged(t, importer.Options{Source: s.URL + source, Target: dir}, time.Hour, change)
			require.Equal(t, importer.NoSpace, result.Reason, result.Message)
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, left, 1, "nothing but the file of somebody else")
		})
	}
}

// TestDeviceThatAToolWroteTo changes the source while qemu-img writes: nothing of the first
// revision may show through the holes of the second.
func TestDeviceThatAToolWroteTo(t *testing.T) {
	if !haveQemu() {
		t.Skip("SKIPPED: needs qemu-img (Debian: qemu-utils)")
	}
	one, other := large(1), make([]byte, 48*mib)
	copy(other, one[:mib])
	d := newDam(t, asQcow2(t, one, "-O", "vhdx"))
	d.open(24 * mib)
	p := newPlace(t, true, 100*mib)
	var swap sync.WaitGroup
	swap.Go(func() {
		for d.passed() < 23*mib && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		d.serves(asQcow2(t, other, "-O", "vhdx"), `"two"`)
		d.open(-1)
	})
	result, out, _ := runStalling(t, importer.Options{Source: d.URL, Target: p.target}, time.Minute)
	swap.Wait()
	require.Equal(t, importer.Imported, result.Reason, result.Message)
	require.Contains(t, out, "starting over")
	p.requireDisk(t, other)
}

// TestGigabyteOfZeros unpacks 1 GiB of zeros from 1 MiB.
func TestGigabyteOfZeros(t *testing.T) {
	bomb := bytes.Repeat(gzipped(t, make([]byte, 16*mib)), 64)
	s := newSite(t, map[string][]byte{"bomb.gz": bomb})
	path := filepath.Join(t.TempDir(), "disk")
	result, _, _ := runStalling(t, importer.Options{Source: s.URL + "/bomb.gz", Target: path}, time.Minute)
	require.Equal(t, importer.Imported, result.Reason, result.Message)
	require.EqualValues(t, 1<<30, result.VirtualSize)
	require.Zero(t, result.WrittenBytes)
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(path, &stat))
	require.EqualValues(t, 1<<30, stat.Size)
	require.Less(t, stat.Blocks*512, int64(mib), "the zeros take room")
}

// TestLyingServer has servers break their word about ranges. The disk is right, or there is none.
func TestLyingServer(t *testing.T) {
	disk := large(6)[:24*mib]
	images := map[string][]byte{"raw": disk}
	if haveQemu() {
		images["qcow2"] = asQcow2(t, disk)
	}
	content := func(w http.ResponseWriter, r *http.Request, image []byte) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(image))
	}
	// part answers with a part that is not the one that was asked for.
	part := func(w http.ResponseWriter, image []byte, first, last, total int) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, total))
		w.Header().Set("Content-Length", strconv.Itoa(last-first+1))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(image[first : last+1])
	}
	for name, c := range map[string]struct {
		serve func(w http.ResponseWriter, r *http.Request, image []byte, first, last int)
		want  importer.Reason
	}{
		"no ranges": {want: importer.Imported, serve: func(w http.ResponseWriter, r *http.Request, image []byte, _, _ int) {
			r.Header.Del("Range")
			content(w, r, image)
		}},
		"weak": {want: importer.Imported, serve: func(w http.ResponseWriter, r *http.Request, image []byte, _, _ int) {
			w.Header().Set("ETag", `W/"weak"`)
			content(w, r, image)
		}},
		"wrong offset": {want: importer.SourceUnstable, serve: func(w http.ResponseWriter, _ *http.Request, image []byte, first, last int) {
			if first > 0 {
				first -= 512
			}
			part(w, image, first, last, len(image))
		}},
		"wrong total": {want: importer.SourceUnstable, serve: func(w http.ResponseWriter, _ *http.Request, image []byte, first, last int) {
			part(w, image, first, last, len(image)+min(first, 1))
		}},
		"later none": {want: importer.SourceUnstable, serve: func(w http.ResponseWriter, r *http.Request, image []byte, first, _ int) {
			if first > 0 {
				w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				return
			}
			content(w, r, image)
		}},
		"later all": {want: importer.ConnectionFailed, serve: func(w http.ResponseWriter, r *http.Request, image []byte, first, _ int) {
			if first > 0 {
				r.Header.Del("Range")
			}
			content(w, r, image)
		}},
		"another ETag later": {want: importer.SourceUnstable, serve: func(w http.ResponseWriter, r *http.Request, image []byte, first, _ int) {
			if first > 0 {
				r.Header.Del("If-Match")
				w.Header().Set("ETag", `"another"`)
			}
			content(w, r, image)
		}},
	} {
		for kind, image := range images {
			t.Run(name+" "+kind, func(t *testing.T) {
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					first, last := 0, len(image)-1
					_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last)
					w.Header().Set("ETag", `"strong"`)
					c.serve(w, r, image, first, min(last, len(image)-1))
				}))
				defer server.Close()
				dir := t.TempDir()
				result, _, _ := runStalling(t, importer.Options{Source: server.URL, Target: dir}, time.Minute)
				require.Equal(t, c.want, result.Reason, result.Message)
				if c.want == importer.Imported {
					place{target: filepath.Join(dir, target.DiskName)}.requireDisk(t, disk)
					return
				}
				requireEmpty(t, dir)
			})
		}
	}
}
