//go:build corpus

package corpus

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// relativeCanaries are names in images that lead to where the image is, or where the importer runs.
var relativeCanaries = []string{"base-not-here.qcow2", "ext.data", "ext2.data", "x-flat.vmdk", "a.vmdk", "vmdk-monolithicFlat-flat.vmdk",
	"vmdk-twoGbMaxExtentFlat-f001.vmdk", "vmdk-twoGbMaxExtentSparse-s001.vmdk"}

// canaryServers are addresses in images.
var canaryServers = []string{"127.0.0.1:10809", metadataService + ":80"}

// watch tells which files below paths are opened from now on.
type watch struct {
	fd    int
	names map[int32]string
}

func watchOpens(t *testing.T, paths ...string) *watch {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	w := &watch{fd: fd, names: map[int32]string{}}
	for _, path := range paths {
		id, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN)
		require.NoError(t, err, path)
		w.names[int32(id)] = path
	}
	return w
}

// opened returns the files that were opened since the last call.
func (w *watch) opened(t *testing.T) []string {
	t.Helper()
	var found []string
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.fd, buffer)
		if errors.Is(err, unix.EAGAIN) {
			return found
		}
		require.NoError(t, err)
		for rest := buffer[:n]; len(rest) > 0; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
			require.Zero(t, event.Mask&unix.IN_Q_OVERFLOW, "events of opened files were lost")
			end := unix.SizeofInotifyEvent + int(event.Len)
			name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:end]), "\x00")
			if event.Mask&unix.IN_ISDIR == 0 {
				found = append(found, filepath.Join(w.names[event.Wd], name))
			}
			rest = rest[end:]
		}
	}
}

// canaries watches the files and addresses of the machine that images name. Several importers
// run beside them: one that rings tells only that one of the running rows did it.
type canaries struct {
	mu    sync.Mutex
	files *watch
	calls []string
}

func startCanaries(t *testing.T) *canaries {
	t.Helper()
	var paths []string
	for _, path := range canaryFiles {
		paths = append(paths, canaryPath(path))
	}
	c := &canaries{files: watchOpens(t, paths...)}
	for _, address := range canaryServers {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		require.NoError(t, err)
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					return
				}
				c.mu.Lock()
				c.calls = append(c.calls, "connection to "+address)
				c.mu.Unlock()
				_ = connection.Close()
			}
		})
		t.Cleanup(func() {
			require.NoError(t, listener.Close())
			serving.Wait()
		})
	}
	return c
}

// rang returns what was touched since the last call.
func (c *canaries) rang(t *testing.T) []string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	found := slices.Concat(c.calls, c.files.opened(t))
	c.calls = nil
	return found
}

// A canary that cannot ring proves nothing: qemu-img follows the names that the importer must not.
func TestCanariesRing(t *testing.T) {
	c := startCanaries(t)
	dir := t.TempDir()
	for image, want := range map[string]string{
		"bad-vmdk-desc-flat-etc-passwd.vmdk": "/etc/passwd",
		"bad-vmdk-desc-flat-traversal.vmdk":  "/etc/passwd",
		"qcow2-backing-etc-passwd.qcow2":     "/etc/passwd",
		"qcow2-backing-nbd-ssrf.qcow2":       canaryServers[0],
	} {
		t.Run(image, func(t *testing.T) {
			require.Empty(t, c.rang(t))
			_, _ = exec.CommandContext(t.Context(), "qemu-img", "convert", "-O", "raw", filepath.Join(home, "images", image), filepath.Join(dir, "out")).CombinedOutput()
			require.Contains(t, strings.Join(c.rang(t), "\n"), want)
		})
	}
	for _, path := range canaryFiles {
		t.Run(path, func(t *testing.T) {
			_, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, []string{canaryPath(path)}, c.rang(t))
		})
	}
	t.Run("a server", func(t *testing.T) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/latest/meta-data", metadataService), nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		require.Contains(t, strings.Join(c.rang(t), "\n"), canaryServers[1])
	})
	t.Run("a file beside the image", func(t *testing.T) {
		near := filepath.Join(dir, relativeCanaries[0])
		require.NoError(t, os.WriteFile(near, nil, 0o600))
		w := watchOpens(t, dir)
		_, err := os.ReadFile(near)
		require.NoError(t, err)
		require.Equal(t, []string{near}, w.opened(t))
	})
}
