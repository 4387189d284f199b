package format_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format"
	"github.com/gild-project/gild/pkg/format/qcow2"
	"github.com/gild-project/gild/pkg/format/refusal"
)

const mib = 1 << 20

func needQemu(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"qemu-img", "prlimit"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: needs %s (Debian: qemu-utils, util-linux)", tool)
		}
	}
}

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
	require.NoError(t, err, "qemu-img %v: %s", args, out)
}

// disk is a raw disk of 8 MiB with random data, text, holes, and a last sector that counts.
func disk() []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 8*mib)
	_, _ = r.Read(b[mib : mib+70000])
	copy(b[4*mib:], bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog.\n"), 6000))
	_, _ = r.Read(b[5*mib+512 : 5*mib+4608])
	_, _ = r.Read(b[len(b)-512:])
	return b
}

// variants are the ways in which qemu-img writes a qcow2 image.
func variants() map[string][]string {
	return map[string][]string{
		"plain":         nil,
		"version 2":     {"-o", "compat=0.10"},
		"zlib":          {"-c"},
		"zstd":          {"-c", "-o", "compression_type=zstd"},
		"clusters 512":  {"-o", "cluster_size=512"},
		"clusters 2M":   {"-o", "cluster_size=2M"},
		"zlib 512":      {"-c", "-o", "cluster_size=512"},
		"extended l2":   {"-o", "extended_l2=on"},
		"preallocated":  {"-o", "preallocation=metadata"},
		"lazy":          {"-o", "lazy_refcounts=on"},
		"refcount 1bit": {"-o", "refcount_bits=1"},
	}
}

func makeQcow2(t *testing.T, raw []byte, options []string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "raw"), raw, 0o600))
	path := filepath.Join(dir, "qcow2")
	qemuImg(t, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, options...), filepath.Join(dir, "raw"), path)...)
	return path
}

// convert runs the conversion under test and returns the raw disk.
func convert(t *testing.T, path string, info format.Image) ([]byte, error) {
	t.Helper()
	source, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, source.Close()) }()
	target, err := os.Create(filepath.Join(t.TempDir(), "target"))
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	require.NoError(t, target.Truncate(info.VirtualSize))
	var last float64
	if err := (format.QemuImg{}).Convert(t.Context(), format.Conversion{
		Source: source, SourceFormat: format.Qcow2, Target: target, TargetFormat: format.Raw, VirtualSize: info.VirtualSize, DataBytes: info.DataBytes,
		Progress: func(done float64) {
			require.GreaterOrEqual(t, done, last)
			last = done
		},
	}); err != nil {
		return nil, err
	}
	require.Equal(t, 1.0, last)
	require.NoError(t, target.Truncate(info.VirtualSize))
	got, err := os.ReadFile(target.Name())
	require.NoError(t, err)
	return got, nil
}

func checkFile(t *testing.T, path string) (format.Image, error) {
	t.Helper()
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	return check(t, whole)
}

func check(t *testing.T, image []byte) (format.Image, error) {
	t.Helper()
	opened, err := qcow2.Open(t.Context(), memory{b: image}, int64(len(image)), math.MaxInt64)
	if err != nil {
		return format.Image{}, err
	}
	return format.Image{VirtualSize: opened.VirtualSize, DataBytes: opened.DataBytes}, nil
}

func TestConvertsWhatQemuWrites(t *testing.T) {
	needQemu(t)
	want := disk()
	for name, options := range variants() {
		t.Run(name, func(t *testing.T) {
			path := makeQcow2(t, want, options)
			info, err := checkFile(t, path)
			require.NoError(t, err)
			require.EqualValues(t, len(want), info.VirtualSize)
			require.Positive(t, info.DataBytes)
			got, err := convert(t, path, info)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
}

func TestConvertsSnapshotsBitmapsAndOddSizes(t *testing.T) {
	needQemu(t)
	want := disk()[:3*mib+512]
	path := makeQcow2(t, want, nil)
	qemuImg(t, "snapshot", "-c", "first", path)
	qemuImg(t, "bitmap", "--add", path, "b0")
	info, err := checkFile(t, path)
	require.NoError(t, err)
	got, err := convert(t, path, info)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// TestTruncationNeverLosesData cuts images of every kind. What passes the check although it is
// cut must still give the whole disk: then only bytes are missing that no reader needs.
func TestTruncationNeverLosesData(t *testing.T) {
	needQemu(t)
	want := disk()
	for name, options := range variants() {
		t.Run(name, func(t *testing.T) {
			path := makeQcow2(t, want, options)
			whole, err := os.ReadFile(path)
			require.NoError(t, err)
			found := 0
			for _, length := range cuts(len(whole)) {
				info, err := check(t, whole[:length])
				if err != nil {
					require.Equal(t, refusal.TruncatedImage, reason(t, err), "cut to %d of %d", length, len(whole))
					found++
					continue
				}
				part := filepath.Join(t.TempDir(), "part")
				require.NoError(t, os.WriteFile(part, whole[:length], 0o600))
				got, err := convert(t, part, info)
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got), "cut to %d of %d", length, len(whole))
			}
			require.Greater(t, found, 20)
		})
	}
}

// cuts are lengths around what tables, clusters and sectors are multiples of, and some between.
func cuts(size int) []int {
	var all []int
	for i := range 24 {
		at := size * (i + 1) / 24 &^ 511
		all = append(all, max(at-1, 0), max(at-512, 0), max(at-3333, 0))
	}
	return append(all, 0, 3, 71, 72, 103, 104, 111, 512, size-1, size-4, size-511)
}

func TestConvertToQcow2(t *testing.T) {
	needQemu(t)
	want := disk()
	for name, c := range map[string]struct {
		path string
		from format.Format
		size int64
	}{
		"from raw":        {writeRaw(t, want), format.Raw, int64(len(want))},
		"from raw, grown": {writeRaw(t, want), format.Raw, 1 << 40},
		"from qcow2":      {makeQcow2(t, want, []string{"-c"}), format.Qcow2, int64(len(want))},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := os.Open(c.path)
			require.NoError(t, err)
			defer func() { require.NoError(t, source.Close()) }()
			target, err := os.Create(filepath.Join(t.TempDir(), "target"))
			require.NoError(t, err)
			defer func() { require.NoError(t, target.Close()) }()
			require.NoError(t, format.QemuImg{}.Convert(t.Context(), format.Conversion{
				Source: source, SourceFormat: c.from, Target: target, TargetFormat: format.Qcow2, VirtualSize: c.size, DataBytes: int64(len(want)),
			}))
			info, err := checkFile(t, target.Name())
			require.NoError(t, err)
			require.Equal(t, c.size, info.VirtualSize)
			if c.size > 1<<30 {
				return
			}
			got, err := convert(t, target.Name(), info)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
}

func writeRaw(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "raw")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}

func openBoth(t *testing.T, path string) format.Conversion {
	t.Helper()
	source, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, source.Close()) })
	target, err := os.Create(filepath.Join(t.TempDir(), "target"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, target.Close()) })
	require.NoError(t, target.Truncate(8*mib))
	return format.Conversion{Source: source, SourceFormat: format.Qcow2, Target: target, TargetFormat: format.Raw, VirtualSize: 8 * mib, DataBytes: 8 * mib}
}

func TestCorruptDataIsRefused(t *testing.T) {
	needQemu(t)
	path := makeQcow2(t, disk(), []string{"-c"})
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	// The streams begin behind the tables; garbage in all of them is no data.
	copy(b[len(b)-60000:], bytes.Repeat([]byte{0xff}, 50000))
	require.NoError(t, os.WriteFile(path, b, 0o600))
	_, err = checkFile(t, path)
	require.NoError(t, err, "the tables are good, only the data is not")
	err = format.QemuImg{}.Convert(t.Context(), openBoth(t, path))
	require.Equal(t, refusal.ConversionFailed, reason(t, err))
}

func TestBackingFileIsNotOpenedEvenWithoutTheGate(t *testing.T) {
	needQemu(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, bytes.Repeat([]byte("canary\n"), 8*mib/7+1)[:8*mib], 0o600))
	path := filepath.Join(dir, "evil")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, path)
	got, err := convert(t, path, format.Image{VirtualSize: 8 * mib})
	require.NoError(t, err)
	require.NotContains(t, string(got), "canary")
}

func TestFullTarget(t *testing.T) {
	needQemu(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to mount a small file system")
	}
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "mount", "-t", "tmpfs", "-o", "size=4m", "gild-test", dir).CombinedOutput()
	require.NoError(t, err, string(out))
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", dir).Run()) })
	c := openBoth(t, makeQcow2(t, bytes.Repeat([]byte("data"), 2*mib), nil))
	target, err := os.Create(filepath.Join(dir, "target"))
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	require.NoError(t, target.Truncate(8*mib))
	c.Target = target
	err = format.QemuImg{}.Convert(t.Context(), c)
	require.Equal(t, refusal.NoSpace, reason(t, err), err)
}

func TestMissingTool(t *testing.T) {
	needQemu(t)
	err := format.QemuImg{Path: "no-such-qemu-img"}.Convert(t.Context(), openBoth(t, makeQcow2(t, disk(), nil)))
	require.Equal(t, refusal.InternalError, reason(t, err))
	require.ErrorContains(t, err, "install qemu-utils")
}

// tool makes a program in place of qemu-img, to show how its ends are judged.
func tool(t *testing.T, script string) format.QemuImg {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	return format.QemuImg{Path: path}
}

func TestToolIsBounded(t *testing.T) {
	needQemu(t)
	c := openBoth(t, makeQcow2(t, disk(), nil))
	for name, row := range map[string]struct{ script, want string }{
		"memory":      {"ulimit -v | grep -qx 2097152 || exit 0; exit 1", refusal.ConversionFailed},
		"processor":   {"ulimit -t | grep -qx 122 || exit 0; exit 1", refusal.ConversionFailed},
		"core":        {"ulimit -c | grep -qx 0 || exit 0; exit 1", refusal.ConversionFailed},
		"environment": {`[ "$(env | grep -vc -e ^PATH= -e ^LC_ALL= -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=)" = 0 ] || exit 0; exit 1`, refusal.ConversionFailed},
		"cpu limit":   {"kill -XCPU $$", refusal.ConversionFailed},
		"write error": {"echo 'qemu-img: error while writing at byte 0: Input/output error' >&2; exit 1", refusal.TargetError},
		"full":        {"echo 'qemu-img: error while writing at byte 0: No space left on device' >&2; exit 1", refusal.NoSpace},
		"chatty":      {"yes canary | head -c 10000000 >&2; yes | head -c 10000000; exit 1", refusal.ConversionFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HTTPS_PROXY", "http://user:canary@proxy")
			c := c
			c.Progress = func(float64) {}
			err := tool(t, row.script).Convert(t.Context(), c)
			require.Equal(t, row.want, reason(t, err), err)
			require.Less(t, len(err.Error()), 1000)
		})
	}
}

// TestToolHasNoNetwork has the tool try to call a server that listens.
func TestToolHasNoNetwork(t *testing.T) {
	needQemu(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	script := fmt.Sprintf(`bash -c 'exec 3<>/dev/tcp/127.0.0.1/%s' 2>&1 | grep -q 'Operation not permitted' || exit 0; exit 1`, port)
	err = tool(t, script).Convert(t.Context(), openBoth(t, makeQcow2(t, disk(), nil)))
	require.Equal(t, refusal.ConversionFailed, reason(t, err), "the tool reached the network")
	// The rest of this process still may.
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func TestCancelKillsTheTool(t *testing.T) {
	needQemu(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pidFile := filepath.Join(t.TempDir(), "pid")
	slow := tool(t, fmt.Sprintf("echo $$ > %[1]s.new; mv %[1]s.new %[1]s; exec sleep 600", pidFile))
	input := openBoth(t, makeQcow2(t, disk(), nil))
	ended := make(chan error, 1)
	go func() { ended <- slow.Convert(ctx, input) }()
	require.Eventually(t, func() bool { _, err := os.Stat(pidFile); return err == nil }, time.Minute, 10*time.Millisecond)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	pid, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	require.NoDirExists(t, filepath.Join("/proc", string(bytes.TrimSpace(pid))))
}
