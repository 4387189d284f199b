package compress_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/compress"
	"github.com/gild-project/gild/pkg/format/refusal"
)

// library makes the reader of xz do without the program.
var library = compress.Options{XZ: "xz-that-is-not-installed"}

// readers are the formats and the ways to read them.
func readers() map[string]reader {
	return map[string]reader{
		"gz":         {format: "gz", tool: []string{"gzip", "-n"}},
		"bz2":        {format: "bz2", tool: []string{"bzip2"}},
		"zst":        {format: "zst", tool: []string{"zstd", "-q"}},
		"xz":         {format: "xz", tool: []string{"xz"}},
		"xz library": {format: "xz", tool: []string{"xz"}, options: library},
	}
}

type reader struct {
	format  string
	tool    []string
	options compress.Options
}

// pack compresses with the real tool.
func (r reader) pack(t testing.TB, plain []byte, options ...string) []byte {
	t.Helper()
	args := append(append([]string{}, r.tool[1:]...), options...)
	command := exec.CommandContext(t.Context(), r.tool[0], append(args, "-c")...)
	command.Stdin = bytes.NewReader(plain)
	out, err := command.Output()
	require.NoError(t, err)
	return out
}

func (r reader) read(t testing.TB, source io.Reader) ([]byte, error) {
	t.Helper()
	in, err := compress.NewReader(t.Context(), r.format, source, r.options)
	require.NoError(t, err)
	plain, err := io.ReadAll(in)
	require.NoError(t, in.Close())
	return plain, err
}

// requirePlain reads packed and compares it as it comes: a large disk is never in memory twice.
func (r reader) requirePlain(t testing.TB, packed, plain []byte, message string, args ...any) {
	t.Helper()
	in, err := compress.NewReader(t.Context(), r.format, bytes.NewReader(packed), r.options)
	require.NoError(t, err)
	rest, buffer, same := plain, make([]byte, 64<<10), true
	for err == nil && same {
		var n int
		n, err = in.Read(buffer)
		same = bytes.HasPrefix(rest, buffer[:n])
		rest = rest[min(n, len(rest)):]
	}
	require.NoError(t, in.Close())
	text := fmt.Sprintf(message, args...)
	require.True(t, same, "%s: something else after %d bytes", text, len(plain)-len(rest))
	require.Equal(t, io.EOF, err, text)
	require.Empty(t, rest, text)
}

func requireReason(t testing.TB, err error, reasons ...string) {
	t.Helper()
	var refused *refusal.Error
	require.ErrorAs(t, err, &refused)
	require.Contains(t, reasons, refused.Reason(), "%v", err)
	require.Contains(t, err.Error(), ": ", "what to do")
}

// disk is data of all kinds: text, noise, holes.
func disk(size int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	data := make([]byte, 0, size+70_000)
	for len(data) < size {
		switch r.IntN(3) {
		case 0:
			data = append(data, make([]byte, r.IntN(60_000))...)
		case 1:
			for range r.IntN(9000) {
				data = append(data, byte(r.Uint32()))
			}
		default:
			data = append(data, bytes.Repeat([]byte("/etc/fstab: UUID="), r.IntN(900))...)
		}
	}
	return data[:size]
}

func TestRoundTrip(t *testing.T) {
	big, skippable := disk(1<<20+70_000), []byte("\x5a\x2a\x4d\x18\x05\x00\x00\x00table")
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			packed := map[string][]byte{"": r.pack(t, big), "-1": r.pack(t, big, "-1"), "-9": r.pack(t, big, "-9")}
			half := len(big)/2 + 1
			one, two := r.pack(t, big[:half]), r.pack(t, big[half:])
			nothing := r.pack(t, nil)
			packed["two"] = join(one, two)
			packed["two and nothing"] = join(nothing, one, nothing, nothing, two, nothing)
			switch r.format {
			case "gz":
				packed["rsyncable"] = r.pack(t, big, "--rsyncable")
				packed["padded with zeros"] = join(one, two, make([]byte, 700))
				packed["flushed, with every header field"] = flushed(t, big)
			case "zst":
				packed["without checksum"] = r.pack(t, big, "--no-check")
				packed["window of 64 MiB"] = r.pack(t, big, "--long=26", "-1")
				packed["-19"] = r.pack(t, big, "-19")
				packed["threads"] = r.pack(t, big, "-T2", "-B600KiB")
				packed["skippable frames"] = join(skippable, skippable, one, skippable, two, skippable)
			case "xz":
				for _, option := range []string{"--check=none", "--check=crc32", "--check=sha256", "--block-size=300KiB"} {
					packed[option] = r.pack(t, big, "-0", option)
				}
				packed["threads"] = r.pack(t, big, "-0", "-T2", "--block-size=300KiB")
				packed["filter"] = r.pack(t, big, "--x86", "--lzma2=preset=1")
				packed["delta"] = r.pack(t, big, "--delta=dist=4", "--lzma2=preset=1")
				packed["padded"] = join(one, make([]byte, 8), two, make([]byte, 4))
			}
			for option, data := range packed {
				t.Run(option, func(t *testing.T) { r.requirePlain(t, data, big, "%s", option) })
			}
			for size := range 3 {
				plain, err := r.read(t, iotest.OneByteReader(bytes.NewReader(r.pack(t, big[:size]))))
				require.NoError(t, err)
				require.Equal(t, big[:size], plain)
			}
			// A source may return its last bytes and its end at once.
			plain, err := r.read(t, iotest.DataErrReader(bytes.NewReader(packed["two"])))
			require.NoError(t, err)
			require.True(t, bytes.Equal(big, plain))
		})
	}
}

// flushed is what parallel compressors make: flushes between blocks and every field of the header.
func flushed(t *testing.T, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Name, w.Comment, w.Extra = "disk.raw", "a disk", []byte("ab\x02\x00cd")
	for start := 0; start < len(plain); start += 128 << 10 {
		_, err := w.Write(plain[start:min(len(plain), start+128<<10)])
		require.NoError(t, err)
		require.NoError(t, w.Flush())
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func TestTruncated(t *testing.T) {
	plain := disk(200_000)[150_000:150_300]
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			packed := r.pack(t, plain)
			for size := range packed {
				got, err := r.read(t, bytes.NewReader(packed[:size]))
				requireReason(t, err, refusal.TruncatedImage)
				require.True(t, bytes.HasPrefix(plain, got))
			}
			if name == "xz" {
				return // the rest would start the program hundreds of times again
			}
			twice := append(bytes.Clone(packed), packed...)
			for size := len(packed) + 1; size < len(twice); size++ {
				_, err := r.read(t, bytes.NewReader(twice[:size]))
				requireReason(t, err, refusal.TruncatedImage)
			}
		})
	}
}

// Each format has a checksum here: a flipped bit is found, or it changed nothing.
func TestFlippedBits(t *testing.T) {
	plain := disk(200_000)[150_000:150_300]
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			packed := r.pack(t, plain)
			refused, bits := 0, 8
			if r.format == "xz" {
				bits = 1 // a program to start, or a large window to allocate, each time
			}
			for i := range len(packed) * bits {
				bad := bytes.Clone(packed)
				bad[i/bits] ^= 1 << ((i*8/bits + i/8) % 8)
				got, err := r.read(t, bytes.NewReader(bad))
				if err == nil {
					require.True(t, bytes.Equal(plain, got), "bit %d", i)
					continue
				}
				refused++
				requireReason(t, err, refusal.CorruptImage, refusal.TruncatedImage, refusal.UnsupportedFormat)
			}
			require.Greater(t, refused, len(packed)*bits*2/3)
		})
	}
}

func TestTrailingGarbage(t *testing.T) {
	plain := disk(100_000)
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			packed := r.pack(t, plain)
			for _, garbage := range []string{"garbage behind it", "\x00\x00\x00\x00\x00\x00\x00\x01", "<html><body>", "\x1f\x8c\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00", "BZx9123456789012"} {
				_, err := r.read(t, bytes.NewReader(append(bytes.Clone(packed), garbage...)))
				requireReason(t, err, refusal.CorruptImage)
			}
			for _, garbage := range []string{"g", "\x00\x01", "\x00\x00\x01", "abc"} { // may be the start of another member
				_, err := r.read(t, bytes.NewReader(append(bytes.Clone(packed), garbage...)))
				requireReason(t, err, refusal.CorruptImage, refusal.TruncatedImage)
			}
			if r.format != "gz" {
				_, err := r.read(t, bytes.NewReader(append(bytes.Clone(packed), make([]byte, 1023)...)))
				requireReason(t, err, refusal.CorruptImage)
			}
		})
	}
}

func TestOtherFormat(t *testing.T) {
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			_, err := r.read(t, bytes.NewReader(disk(300_000)))
			requireReason(t, err, refusal.CorruptImage)
		})
	}
	_, err := compress.NewReader(t.Context(), "lzo", bytes.NewReader(nil), compress.Options{})
	requireReason(t, err, refusal.UnsupportedFormat)
}

// Memory is not taken because the data says so.
func TestLargeWindow(t *testing.T) {
	t.Run("zst", func(t *testing.T) {
		frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 1, 0, 0}
		for exponent, ok := range map[byte]bool{16: true, 17: false, 21: false, 31: false} {
			frame[5] = exponent << 3
			_, err := readers()["zst"].read(t, bytes.NewReader(frame))
			if ok {
				require.NoError(t, err)
				continue
			}
			requireReason(t, err, refusal.UnsupportedFormat)
		}
	})
	t.Run("zst dictionary", func(t *testing.T) {
		_, err := readers()["zst"].read(t, bytes.NewReader([]byte{0x28, 0xb5, 0x2f, 0xfd, 1, 0, 77, 1, 0, 0}))
		requireReason(t, err, refusal.UnsupportedFormat)
	})
	for _, name := range []string{"xz", "xz library"} {
		t.Run(name, func(t *testing.T) {
			r := readers()[name]
			packed := r.pack(t, []byte("small"))
			// The block header is behind 12 bytes of stream header; its fifth byte is the size of the dictionary.
			block := packed[12 : 12+4*(int(packed[12])+1)]
			for size, ok := range map[byte]bool{28: true, 29: false, 40: false} { // 64 MiB, 96 MiB, 4 GiB
				block[4] = size
				binary.LittleEndian.PutUint32(block[len(block)-4:], crc32.ChecksumIEEE(block[:len(block)-4]))
				got, err := r.read(t, bytes.NewReader(packed))
				if ok {
					require.NoError(t, err)
					require.Equal(t, "small", string(got))
					continue
				}
				requireReason(t, err, refusal.UnsupportedFormat)
			}
		})
	}
}

type cut struct{ code int }

func (cut) Error() string { return "connection cut" }

// What the source says comes out as it is, wherever it happens: it decides whether to try again.
func TestSourceFails(t *testing.T) {
	plain := append(disk(300_000), make([]byte, 1<<20)...) // more than what is decoded at once
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			packed := r.pack(t, plain, "-1")
			for _, size := range []int{0, 1, 5, 20, len(packed) / 2, len(packed) - 1, len(packed)} {
				for _, fault := range []error{cut{7}, io.ErrUnexpectedEOF, errors.Join(cut{7}, io.EOF)} {
					got, err := r.read(t, io.MultiReader(bytes.NewReader(packed[:size]), iotest.ErrReader(fault)))
					require.Equal(t, fault, err)
					var refused *refusal.Error
					require.NotErrorAs(t, err, &refused)
					require.True(t, bytes.HasPrefix(plain, got))
				}
			}
		})
	}
}
