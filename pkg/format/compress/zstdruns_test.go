package compress_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/compress"
	"github.com/gild-project/gild/pkg/format/refusal"
)

// words is text whose statistics stay the same, so that blocks use the tables of those before them.
func words(size int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	list := []string{"kernel ", "initrd ", "/boot/", "root=UUID=", "quiet ", "console=ttyS0 ", "\n"}
	var text []byte
	for len(text) < size {
		text = append(append(text, list[r.IntN(len(list))]...), byte('a'+r.IntN(26)))
	}
	return text[:size]
}

// sparse are disks with runs of zeros around the size of a window, and what is hard about them.
func sparse(window, block int) map[string][]byte {
	zeros := func(n int) []byte { return make([]byte, max(0, n)) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	text := func(seed uint64) []byte { return words(3*block+17, seed) }
	disks := map[string][]byte{
		"start":        join(zeros(5*window), text(1)),
		"middle":       join(text(1), zeros(9*window+5), text(2)),
		"end":          join(text(1), zeros(5*window)),
		"only":         zeros(7 * window),
		"other bytes":  join(text(1), bytes.Repeat([]byte{0xff}, 5*window), text(2), zeros(4*window), bytes.Repeat([]byte{1}, 4*window)),
		"change":       join(zeros(4*window), bytes.Repeat([]byte{1}, 4*window), zeros(4*window), text(1)),
		"many":         join(text(1), zeros(3*window), text(2), zeros(4*window), text(3), zeros(3*window), text(1)),
		"a single bit": join(zeros(4*window+block/2), []byte{1}, zeros(4*window), text(1)),
		// Matches that begin in the zeros and before them.
		"back": join(text(1), zeros(4*window), []byte("kernel"), zeros(block/2), []byte("kernel"), zeros(block), text(1)),
	}
	for name, size := range map[string]int{
		"window": window, "window+1": window + 1, "window-1": window - 1, "window+block": window + block,
		"window-block": window - block, "window+block+1": window + block + 1, "2 windows": 2 * window, "2 windows+block": 2*window + block,
	} {
		// In whole blocks and not.
		disks[name] = join(words(block, 1), zeros(size), text(2), zeros(size+7), text(1))
	}
	return disks
}

// file compresses a file, whose size the tool knows, other than that of a pipe.
func file(t testing.TB, plain []byte, options ...string) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(name, plain, 0o600))
	out, err := exec.CommandContext(t.Context(), "zstd", append(options, "-q", "-c", name)...).Output()
	require.NoError(t, err)
	return out
}

func TestZeroRuns(t *testing.T) {
	r := readers()["zst"]
	for _, c := range []struct {
		name          string
		options       []string
		window, block int
	}{
		{"window of 1 KiB", []string{"--zstd=wlog=10"}, 1 << 10, 1 << 10},
		{"window of 1 KiB, best", []string{"-19", "--zstd=wlog=10"}, 1 << 10, 1 << 10},
		{"window of 64 KiB", []string{"-1", "--zstd=wlog=16"}, 64 << 10, 64 << 10},
		{"level 1", []string{"-1"}, 512 << 10, 128 << 10},
		{"level 3", []string{"-3"}, 2 << 20, 128 << 10},
		{"one thread", []string{"-1", "--single-thread"}, 512 << 10, 128 << 10},
		{"no checksum", []string{"-1", "--no-check"}, 512 << 10, 128 << 10},
		{"threads", []string{"-1", "-T0", "-B1MiB"}, 512 << 10, 128 << 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, plain := range sparse(c.window, c.block) {
				known, unknown := file(t, plain, c.options...), r.pack(t, plain, c.options...)
				skip := []byte("\x5a\x2a\x4d\x18\x05\x00\x00\x00table")
				for kind, packed := range map[string][]byte{
					"size known": known, "size unknown": unknown,
					"frames": bytes.Join([][]byte{skip, known, unknown, skip, known, skip}, nil),
				} {
					want := plain
					if kind == "frames" {
						want = bytes.Repeat(plain, 3)
					}
					r.requirePlain(t, packed, want, "%s, %s", name, kind)
				}
			}
		})
	}
}

// The windows that need many zeros before any can be left out.
func TestZeroRunsLargeWindow(t *testing.T) {
	r := readers()["zst"]
	plain := bytes.Join([][]byte{words(300_000, 1), make([]byte, 150<<20), words(200_000, 2), make([]byte, 66<<20+1), words(200_000, 1)}, nil)
	for _, options := range [][]string{{"--long=26", "-1"}, {"-19", "-T2"}, {"--long=26", "-T2"}} {
		r.requirePlain(t, r.pack(t, plain, options...), plain, "%v", options)
	}
}

func TestZeroRunsTruncated(t *testing.T) {
	r := readers()["zst"]
	for _, c := range sparseSmall(t) {
		for size := range c.packed {
			got, err := r.read(t, bytes.NewReader(c.packed[:size]))
			requireReason(t, err, refusal.TruncatedImage)
			require.True(t, bytes.HasPrefix(c.plain, got), "%d bytes", size)
		}
	}
}

func TestZeroRunsFlippedBits(t *testing.T) {
	for _, c := range sparseSmall(t) {
		for i := range c.packed {
			bad := bytes.Clone(c.packed)
			bad[i] ^= 1 << (i % 8)
			requireSame(t, bad)
			requireSame(t, checksummed(bad))
		}
	}
}

type packed struct{ plain, packed []byte }

func sparseSmall(t testing.TB) []packed {
	t.Helper()
	plain := bytes.Join([][]byte{words(1500, 1), make([]byte, 6000), words(600, 2), make([]byte, 3<<10), words(1100, 1), make([]byte, 5000)}, nil)
	return []packed{
		{plain, file(t, plain, "--zstd=wlog=10")},
		{plain, readers()["zst"].pack(t, plain, "--zstd=wlog=10")},
	}
}

// requireSame reads packed with the library alone too: the same comes out, or both refuse it.
func requireSame(t testing.TB, packed []byte) {
	t.Helper()
	want, wantErr := alone(packed)
	in, err := compress.NewReader(t.Context(), "zst", bytes.NewReader(packed), compress.Options{})
	require.NoError(t, err)
	got, err := io.ReadAll(io.LimitReader(in, fuzzLimit))
	require.NoError(t, in.Close())
	if len(packed) == 0 {
		// To the library nothing is no frame at all, to us it is a download that never began.
		requireReason(t, err, refusal.TruncatedImage)
		return
	}
	if wantErr == nil {
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		return
	}
	// Of a frame that is damaged the library holds back the last block.
	common := min(len(want), len(got))
	require.Equal(t, want[:common], got[:common])
	if len(got) < fuzzLimit {
		require.Error(t, err, "%v", wantErr)
	}
}

func alone(packed []byte, options ...zstd.DOption) ([]byte, error) {
	d, err := zstd.NewReader(io.MultiReader(bytes.NewReader(packed)), append(options, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(compress.Window))...)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return io.ReadAll(io.LimitReader(d, fuzzLimit))
}

// checksummed puts the right checksum behind a frame that was changed, so that what
// is in it counts.
func checksummed(packed []byte) []byte {
	plain, err := alone(packed, zstd.IgnoreChecksum(true))
	if err != nil || len(packed) < 4 {
		return packed
	}
	return binary.LittleEndian.AppendUint32(bytes.Clone(packed[:len(packed)-4]), uint32(xxhash.Sum64(plain)))
}

// frame is a frame with a window of 1 KiB, without its size.
func frame(blocks ...[]byte) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 4, 0}
	return append(append(out, bytes.Join(blocks, nil)...), 0, 0, 0, 0)
}

func blockOf(kind, last, size int, content ...byte) []byte {
	header := last | kind<<1 | size<<3
	return append([]byte{byte(header), byte(header >> 8), byte(header >> 16)}, content...)
}

// hostile are frames that no compressor writes.
func hostile() map[string][]byte {
	zeros := bytes.Repeat(blockOf(1, 0, 1024, 0), 5)
	end := blockOf(0, 1, 3, 'e', 'n', 'd')
	whole := frame(zeros, end)
	single := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x64, 3, 19}, whole[6:]...)
	size := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x44, 0, 3, 19}, whole[6:]...)
	tooSmall, tooLarge := bytes.Clone(size), bytes.Clone(size)
	tooSmall[6]--
	tooLarge[6]++
	endless := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xc4, 0, 255, 255, 255, 255, 255, 255, 255, 255}, whole[6:]...)
	dictionary := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 5, 0, 0}, whole[6:]...)
	reserved := bytes.Clone(whole)
	reserved[4] |= 8
	return map[string][]byte{
		"whole": whole, "single segment": single, "right size": size, "size too small": tooSmall, "size too large": tooLarge,
		"largest size": endless, "dictionary 0": dictionary, "reserved bit": reserved,
		"last is zeros":            frame(zeros, blockOf(1, 1, 1024, 0)),
		"last is empty":            frame(zeros, blockOf(0, 1, 0)),
		"empty ones between":       frame(zeros, blockOf(1, 0, 0, 0), blockOf(0, 0, 0), zeros, blockOf(1, 0, 0, 7), zeros, end),
		"nothing but empty ones":   frame(blockOf(1, 0, 0, 0), blockOf(0, 0, 0), blockOf(1, 1, 0, 0)),
		"small ones":               frame(zeros, bytes.Repeat(blockOf(1, 0, 1, 0), 3000), end),
		"larger than the window":   frame(zeros, blockOf(1, 0, 1025, 0), end),
		"largest":                  frame(zeros, blockOf(1, 0, 1<<21-1, 0), end),
		"reserved kind":            frame(zeros, blockOf(3, 0, 5, 0), end),
		"compressed, larger":       frame(zeros, blockOf(2, 0, 1<<20, 0), end),
		"compressed, nothing":      frame(zeros, blockOf(2, 0, 1, 0), end),
		"literals, zeros":          frame(zeros, blockOf(2, 0, 3, 0xf9, 0, 0), zeros, end),
		"offset beyond the window": frame(zeros, blockOf(2, 0, 9, 0x08, 'x', 1, 0x54, 0, 10, 0, 0xff, 0x81), end),
	}
}

func TestZeroRunsHostile(t *testing.T) {
	for name, packed := range hostile() {
		t.Run(name, func(t *testing.T) {
			requireSame(t, packed)
			requireSame(t, checksummed(packed))
			requireSame(t, append(checksummed(packed), checksummed(packed)...))
		})
	}
	for _, name := range []string{"whole", "single segment", "right size", "last is zeros", "empty ones between", "small ones"} {
		packed := checksummed(hostile()[name])
		tool := exec.CommandContext(t.Context(), "zstd", "-dc")
		tool.Stdin = bytes.NewReader(packed)
		want, err := tool.Output()
		require.NoError(t, err, name)
		got, err := readers()["zst"].read(t, bytes.NewReader(packed))
		require.NoError(t, err, name)
		require.True(t, bytes.Equal(want, got), name)
		packed[len(packed)-1]++
		_, err = readers()["zst"].read(t, bytes.NewReader(packed))
		requireReason(t, err, refusal.CorruptImage)
	}
}

// FuzzZeroRuns compares the reader with the library alone, also with the checksum put right.
func FuzzZeroRuns(f *testing.F) {
	for _, c := range sparseSmall(f) {
		f.Add(c.packed)
	}
	for _, plain := range sparse(1<<10, 1<<10) {
		f.Add(readers()["zst"].pack(f, plain, "--zstd=wlog=10"))
	}
	for _, packed := range hostile() {
		f.Add(packed)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, packed []byte) {
		requireSame(t, packed)
		requireSame(t, checksummed(packed))
	})
}

// BenchmarkZeroRuns reads 1 GiB of zeros between data.
func BenchmarkZeroRuns(b *testing.B) {
	plain := bytes.Join([][]byte{disk(3 << 20), make([]byte, 1<<30), disk(1 << 20)}, nil)
	for _, level := range []string{"-1", "-3", "-19"} {
		packed := readers()["zst"].pack(b, plain, level)
		b.Run(level, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				in, err := compress.NewReader(b.Context(), "zst", bytes.NewReader(packed), compress.Options{})
				require.NoError(b, err)
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, make([]byte, 1<<20))
				require.NoError(b, err)
				require.EqualValues(b, len(plain), n)
				require.NoError(b, in.Close())
			}
		})
	}
}
