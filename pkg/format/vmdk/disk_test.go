package vmdk_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/vmdk"
)

const plenty = 1 << 40

// disk is a target in memory that knows what a target may rely on.
type disk struct {
	granule int64
	mu      sync.Mutex
	data    []byte
	written map[int64]bool
	broken  error
}

func newDisk(h vmdk.Header) *disk {
	return &disk{granule: h.Granule(), data: make([]byte, h.VirtualSize), written: map[int64]bool{}}
}

func (d *disk) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	end := off + int64(len(p))
	switch {
	case d.broken != nil:
		return 0, d.broken
	case len(p) == 0 || off < 0 || end > int64(len(d.data)):
		return 0, fmt.Errorf("%d bytes at %d are not on the disk", len(p), off)
	case off%d.granule != 0 || int64(len(p))%d.granule != 0 && end != int64(len(d.data)):
		return 0, fmt.Errorf("%d bytes at %d are not whole granules", len(p), off)
	case uintptr(unsafe.Pointer(&p[0]))%4096 != 0:
		return 0, fmt.Errorf("the buffer for %d is not aligned", off)
	case d.written[off]:
		return 0, fmt.Errorf("%d is written twice", off)
	}
	d.written[off] = true
	return copy(d.data[off:], p), nil
}

// read passes an image on in pieces of the given size.
func read(t testing.TB, source []byte, size int) ([]byte, error) {
	t.Helper()
	head := source[:min(len(source), 64<<10)]
	h, err := vmdk.ReadHeader(head)
	if err != nil {
		return nil, err
	}
	d := newDisk(h)
	p, err := vmdk.NewPass(head, plenty, 3, d)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	piece := make([]byte, size)
	for rest := source; len(rest) > 0; {
		n := copy(piece, rest)
		rest = rest[n:]
		if err := p.Write(t.Context(), piece[:n]); err != nil {
			return nil, err
		}
		clear(piece) // it must not have been kept
	}
	again, err := p.End(t.Context())
	if err != nil {
		return nil, err
	}
	require.False(t, again)
	return d.data, nil
}

// randomDisk has the given size, of which a part is zero, a part is dense and a part is text.
func randomDisk(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, size)
	for off := 0; off < size; off += 4096 {
		part := b[off:min(size, off+4096)]
		switch r.IntN(6) {
		case 0:
			for i := range part {
				part[i] = byte(r.Uint32())
			}
		case 1:
			for i := range part {
				part[i] = "the quick brown fox "[i%20]
			}
		}
	}
	return b
}

func qemuImg(t testing.TB, args ...string) error {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img %v: %w: %s", args, err, out)
	}
	return nil
}

// fromQemu makes an image of a disk with qemu-img.
func fromQemu(t testing.TB, disk []byte, options string, flags ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	raw, made := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "disk.vmdk")
	require.NoError(t, os.WriteFile(raw, disk, 0o600))
	args := append([]string{"convert", "-f", "raw", "-O", "vmdk", "-o", options}, flags...)
	require.NoError(t, qemuImg(t, append(args, raw, made)...))
	b, err := os.ReadFile(made)
	require.NoError(t, err)
	return b
}

// byQemu is what qemu-img reads from an image.
func byQemu(t testing.TB, source []byte) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	raw, made := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "disk.vmdk")
	require.NoError(t, os.WriteFile(made, source, 0o600))
	if err := qemuImg(t, "convert", "-f", "vmdk", "-O", "raw", made, raw); err != nil {
		return nil, err
	}
	return os.ReadFile(raw)
}
