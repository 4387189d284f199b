package qcow2_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/qcow2"
)

// live writes chunks of 64 KiB into an image as a guest does, in random order.
func live(t *testing.T, name string, seed uint64, chunks int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	var script strings.Builder
	for i := range chunks {
		at := r.Int64N(8<<30) &^ 4095
		fmt.Fprintf(&script, "write -q -P %d %d 64k\n", 1+(i+int(seed))%255, at)
		if i%16 == 0 {
			fmt.Fprintf(&script, "write -q -z %d 64k\n", (at+(1<<20))&^65535)
		}
	}
	edit(t, name, script.String())
}

// edit runs commands of qemu-io.
func edit(t *testing.T, name, script string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "qemu-io", "-d", "unmap", "-t", "unsafe", "-f", "qcow2", name)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// save writes a disk as a sparse raw file.
func (d *disk) save(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ours.raw")
	f, err := os.Create(name)
	require.NoError(t, err)
	defer f.Close()
	for at, b := range d.pages {
		_, err := f.WriteAt(b, at*page)
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(d.size))
	return name
}

func TestLiveImages(t *testing.T) {
	cases := map[string]struct {
		create []string
		steps  func(t *testing.T, name string)
		passes int
	}{
		"written": {passes: 1, steps: func(t *testing.T, name string) { live(t, name, 1, 800) }},
		"written and discarded": {passes: 1, steps: func(t *testing.T, name string) {
			live(t, name, 1, 100)
			edit(t, name, "discard -q 1G 500M\ndiscard -q 4G 1G\n")
			live(t, name, 2, 100)
		}},
		"small clusters": {create: []string{"-o", "cluster_size=4k"}, passes: 1, steps: func(t *testing.T, name string) {
			live(t, name, 1, 600)
		}},
		"subclusters": {create: []string{"-o", "extended_l2=on"}, passes: 1, steps: func(t *testing.T, name string) {
			live(t, name, 2, 800)
		}},
		"compressed, then written": {passes: 1, steps: func(t *testing.T, name string) {
			compressed(t, name)
			live(t, name, 3, 300)
		}},
		"grown half way": {passes: 2, steps: func(t *testing.T, name string) {
			live(t, name, 1, 700)
			qemuImg(t, "resize", "-f", "qcow2", name, "200G")
			live(t, name, 2, 700)
		}},
		"snapshot half way": {passes: 2, steps: func(t *testing.T, name string) {
			live(t, name, 1, 800)
			qemuImg(t, "snapshot", "-c", "one", name)
			live(t, name, 2, 800)
		}},
		"compressed, then grown to 5T": {passes: 2, steps: func(t *testing.T, name string) {
			compressed(t, name)
			qemuImg(t, "resize", "-f", "qcow2", name, "5T")
		}},
		"snapshot, then grown": {passes: 2, steps: func(t *testing.T, name string) {
			live(t, name, 1, 800)
			qemuImg(t, "snapshot", "-c", "one", name)
			live(t, name, 2, 800)
			qemuImg(t, "resize", "-f", "qcow2", name, "200G")
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := filepath.Join(t.TempDir(), "image.qcow2")
			qemuImg(t, append(append([]string{"create", "-q", "-f", "qcow2"}, c.create...), image, "10G")...)
			c.steps(t, image)
			f, size := open(t, image)
			want, err := random(t.Context(), f, size, math.MaxInt64, false)
			require.NoError(t, err)
			qemuImg(t, "compare", "-f", "qcow2", "-F", "raw", image, want.save(t))
			for _, chunk := range []int{99991, 1 << 20} {
				got, passes, err := forward(t.Context(), f, size, math.MaxInt64, chunk)
				require.NoError(t, err)
				require.Equal(t, c.passes, passes)
				require.NoError(t, want.equal(got))
			}
		})
	}
}

// compressed fills an image with 40 MiB that do not compress, and 40 MiB that do.
func compressed(t *testing.T, name string) {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "guest.raw")
	b := append(noise(40<<20), bytes.Repeat([]byte("disk"), 10<<20)...)
	for off := 0; off < 40<<20; off += 65536 {
		clear(b[off:][:4096])
	}
	require.NoError(t, os.WriteFile(raw, b, 0o600))
	require.NoError(t, os.Truncate(raw, 10<<30))
	qemuImg(t, "convert", "-c", "-f", "raw", "-O", "qcow2", raw, name)
}

// moved is an image of two passes: its only table of tables is behind more data than are kept in memory.
func moved() []byte {
	p := plan{bits: 16, size: 41 << 20, words: map[int64]uint64{}, data: noise(40 << 20)}
	for i := range int64(len(p.data)) >> 16 {
		p.words[i] = uint64(p.dataAt() + i<<16)
	}
	packed := deflate(make([]byte, 1<<16))
	p.words[p.size>>16-1] = 1<<62 | uint64(p.dataAt()+int64(len(p.data)))
	p.data = append(p.data, append(packed, make([]byte, 512)...)...)
	b := p.build()
	l1, end := l1Offset(b), (len(b)+0xffff)&^0xffff
	b = append(b, make([]byte, end+1<<16-len(b))...)
	copy(b[end:], b[l1:l1+1<<16])
	put64(b, 40, uint64(end))
	return b
}

func TestChangeBetweenTwoReads(t *testing.T) {
	whole := moved()
	header, err := qcow2.ReadHeader(whole)
	require.NoError(t, err)
	l1 := l1Offset(whole)
	changes := map[string]func(b []byte) []byte{
		"header":   func(b []byte) []byte { b[100]++; return b },
		"l1 entry": func(b []byte) []byte { put64(b, l1, 0); return b },
		"cut":      func(b []byte) []byte { return b[:len(b)-512] },
		"longer":   func(b []byte) []byte { return append(b, 0) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			pass, err := qcow2.NewPass(whole, math.MaxInt64, 2, newDisk(header))
			require.NoError(t, err)
			defer pass.Close()
			require.NoError(t, pass.Write(t.Context(), whole))
			again, err := pass.End(t.Context())
			require.NoError(t, err)
			require.True(t, again)
			err = pass.Write(t.Context(), change(bytes.Clone(whole)))
			if err == nil {
				_, err = pass.End(t.Context())
			}
			require.ErrorIs(t, err, qcow2.Changed{})
		})
	}
}

func l1Offset(b []byte) int { return int(get64(b, 40)) }
