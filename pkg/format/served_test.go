package format_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format"
)

// memory is an image in memory that is read at random, or cannot be from some offset on.
type memory struct {
	b      []byte
	broken int64
	err    error
}

func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if m.err != nil && off+int64(len(p)) > m.broken {
		return 0, m.err
	}
	return copy(p, m.b[off:]), nil
}

// served converts an image that is no file.
func served(t *testing.T, from, to format.Format, image memory, size int64) ([]byte, error) {
	t.Helper()
	target, err := os.Create(filepath.Join(t.TempDir(), "target"))
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	require.NoError(t, target.Truncate(size))
	if err := (format.QemuImg{}).Convert(t.Context(), format.Conversion{
		Image: image, Size: int64(len(image.b)), SourceFormat: from, Target: target, TargetFormat: to, VirtualSize: size, DataBytes: size,
	}); err != nil {
		return nil, err
	}
	if to == format.Raw {
		require.NoError(t, target.Truncate(size))
	}
	got, err := os.ReadFile(target.Name())
	require.NoError(t, err)
	return got, nil
}

// others are the images that only qemu-img reads, by the options that make them.
func others() map[string]struct {
	format  format.Format
	options []string
} {
	type row = struct {
		format  format.Format
		options []string
	}
	return map[string]row{
		"vhd dynamic":           {format.VHD, []string{"-O", "vpc", "-o", "subformat=dynamic,force_size=on"}},
		"vhd dynamic, geometry": {format.VHD, []string{"-O", "vpc", "-o", "subformat=dynamic"}},
		"vhd fixed":             {format.VHD, []string{"-O", "vpc", "-o", "subformat=fixed,force_size=on"}},
		"vhd fixed, geometry":   {format.VHD, []string{"-O", "vpc", "-o", "subformat=fixed"}},
		"vhdx dynamic":          {format.VHDX, []string{"-O", "vhdx", "-o", "subformat=dynamic"}},
		"vhdx small blocks":     {format.VHDX, []string{"-O", "vhdx", "-o", "subformat=dynamic,block_size=1M"}},
		"vhdx fixed":            {format.VHDX, []string{"-O", "vhdx", "-o", "subformat=fixed"}},
		"vdi dynamic":           {format.VDI, []string{"-O", "vdi"}},
		"vdi static":            {format.VDI, []string{"-O", "vdi", "-o", "static=on"}},
		"vmdk monolithicSparse": {format.VMDK, []string{"-O", "vmdk", "-o", "subformat=monolithicSparse"}},
		"vmdk, version 6":       {format.VMDK, []string{"-O", "vmdk", "-o", "subformat=monolithicSparse,compat6=on"}},
		"vmdk with zero grains": {format.VMDK, []string{"-O", "vmdk", "-o", "subformat=monolithicSparse,zeroed_grain=on"}},
		"raw":                   {format.Raw, []string{"-O", "raw"}},
		"qcow2":                 {format.Qcow2, []string{"-O", "qcow2", "-c"}},
	}
}

// make writes the disk as another image, and returns it with the disk that qemu-img reads in
// its file.
func makeOther(t *testing.T, options []string) (image, disk []byte) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	qemuImg(t, append(append([]string{"convert", "-f", "raw"}, options...), writeRaw(t, testDisk()), path)...)
	qemuImg(t, "convert", "-f", options[1], "-O", "raw", path, filepath.Join(dir, "disk"))
	image, err := os.ReadFile(path)
	require.NoError(t, err)
	disk, err = os.ReadFile(filepath.Join(dir, "disk"))
	require.NoError(t, err)
	return image, disk
}

func testDisk() []byte { return disk() }

func TestServedImageIsTheSameDisk(t *testing.T) {
	needQemu(t)
	for name, row := range others() {
		t.Run(name, func(t *testing.T) {
			image, want := makeOther(t, row.options)
			got, err := served(t, row.format, format.Raw, memory{b: image}, int64(len(want)))
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
}

func TestErrorOfTheSourceWins(t *testing.T) {
	needQemu(t)
	cut := errors.New("the server cut the connection 5 times")
	for name, row := range others() {
		t.Run(name, func(t *testing.T) {
			image, want := makeOther(t, row.options)
			for _, broken := range []int64{0, int64(len(image)) / 2} {
				_, err := served(t, row.format, format.Raw, memory{b: image, broken: broken, err: cut}, int64(len(want)))
				require.Equal(t, cut, err)
			}
		})
	}
}

func TestServedImageToQcow2(t *testing.T) {
	needQemu(t)
	image, want := makeOther(t, []string{"-O", "vhdx"})
	written, err := served(t, format.VHDX, format.Qcow2, memory{b: image}, 64*mib)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "qcow2"), written, 0o600))
	qemuImg(t, "check", "-f", "qcow2", filepath.Join(dir, "qcow2"))
	qemuImg(t, "convert", "-f", "qcow2", "-O", "raw", filepath.Join(dir, "qcow2"), filepath.Join(dir, "raw"))
	got, err := os.ReadFile(filepath.Join(dir, "raw"))
	require.NoError(t, err)
	require.Len(t, got, 64*mib)
	require.True(t, bytes.Equal(want, got[:len(want)]))
}

// TestServedImageNeedsNoSocket has the tool look at what it inherits: a connection without a
// name, and the target.
func TestServedImageNeedsNoSocket(t *testing.T) {
	needQemu(t)
	image, want := makeOther(t, []string{"-O", "vdi"})
	target, err := os.Create(filepath.Join(t.TempDir(), "target"))
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	c := format.Conversion{
		Image: memory{b: image}, Size: int64(len(image)), SourceFormat: format.VDI, Target: target, TargetFormat: format.Raw,
		VirtualSize: int64(len(want)), DataBytes: int64(len(want)),
	}
	script := `case "$(readlink /proc/self/fd/3)" in socket:*) ;; *) exit 1;; esac; [ ! -e /proc/self/fd/5 ] || exit 1
case "$*" in *'"server":{"str":"3","type":"fd"}'*) exit 0;; esac; exit 1`
	require.NoError(t, tool(t, script).Convert(t.Context(), c))
}

// TestCancelEndsServing cancels while the source hangs.
func TestCancelEndsServing(t *testing.T) {
	needQemu(t)
	target, err := os.Create(filepath.Join(t.TempDir(), "target"))
	require.NoError(t, err)
	defer func() { require.NoError(t, target.Close()) }()
	cause := errors.New("the user cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	err = format.QemuImg{}.Convert(ctx, format.Conversion{
		Image: hanging{cancel: func() { cancel(cause) }}, Size: 8 * mib, SourceFormat: format.VHDX,
		Target: target, TargetFormat: format.Raw, VirtualSize: 8 * mib, DataBytes: 8 * mib,
	})
	require.Equal(t, cause, err)
}

// hanging is a source that does not answer until it is cancelled.
type hanging struct{ cancel func() }

func (h hanging) ReadAt(ctx context.Context, _ []byte, _ int64) (int, error) {
	h.cancel()
	<-ctx.Done()
	return 0, ctx.Err()
}
