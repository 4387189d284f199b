package ext4

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// TestMain finds goroutines that a test leaves behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg," +
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// blank makes an empty file system with mke2fs.
func blank(t *testing.T, size int64, options ...string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	require.NoError(t, f.Truncate(size))
	args := append([]string{"-q", "-F", "-b", "4096", "-I", "256", "-E", "assume_storage_prezeroed=1,resize=70000", "-O", features}, options...)
	run(t, "mke2fs", append(args, f.Name())...)
	return f
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), out)
}

// dump reads a file with debugfs.
func dump(t *testing.T, f *os.File, name string) []byte {
	t.Helper()
	out := t.TempDir() + "/out"
	run(t, "debugfs", "-R", "dump /"+name+" "+out, f.Name())
	content, err := os.ReadFile(out)
	require.NoError(t, err)
	return content
}

// noise has no two blocks alike.
func noise(seed, size int) []byte {
	out := make([]byte, 0, size+32)
	for n := 0; len(out) < size; n++ {
		sum := sha256.Sum256(fmt.Append(nil, seed, n))
		out = append(out, sum[:]...)
	}
	return out[:size]
}

// Small groups bring every kind of group into a small file: with and without a copy of the
// superblock, with and without tables, without any use so far, and a last one that is cut.
func TestFillsGroupsOfAllKinds(t *testing.T) {
	for name, options := range map[string][]string{
		"flexible":       {"-g", "256", "-i", "16384"},
		"separate":       {"-g", "512", "-i", "16384", "-G", "1"},
		"many inodes":    {"-g", "256", "-i", "4096", "-G", "4"},
		"no journal":     {"-g", "1024", "-O", features + ",^has_journal"},
		"without resize": {"-g", "256", "-E", "assume_storage_prezeroed=1", "-O", features + ",^resize_inode"},
	} {
		t.Run(name, func(t *testing.T) {
			f := blank(t, 64<<20+36864, options...)
			before, err := Used(f)
			require.NoError(t, err)
			filler, err := Open(f)
			require.NoError(t, err)
			sums := map[string][]byte{}
			written := int64(0)
			for n := 0; ; n++ {
				size := []int{0, 1, 4096, 5000, 65536, 300001, 1 << 20}[n%7]
				if written+int64(size) > (60<<20)-before {
					break
				}
				file, content := fmt.Sprintf("dir-%d/file-%d", n%50, n), noise(n, size)
				require.NoError(t, filler.File(file, Attributes{Mode: 0o640, Modified: time.Unix(int64(n), 0)}, int64(size), bytes.NewReader(content)))
				sums[file] = content
				written += int64(size+4095) / 4096 * 4096
			}
			require.NoError(t, filler.Close())
			run(t, "e2fsck", "-f", "-n", f.Name())
			used, err := Used(f)
			require.NoError(t, err)
			require.GreaterOrEqual(t, used, before+written)
			checked := 0
			for file, content := range sums {
				if checked++; checked > 40 {
					break
				}
				require.True(t, bytes.Equal(content, dump(t, f, file)), file)
			}
		})
	}
}

// A file of more than 4 * 340 parts has a tree of extents with two levels above its leaves.
func TestDeepTree(t *testing.T) {
	const parts = 1500
	content := make([]byte, parts*2*granule)
	for n := range parts {
		copy(content[n*2*granule:], fmt.Sprintf("part %d", n))
	}
	f := blank(t, 256<<20)
	filler, err := Open(f)
	require.NoError(t, err)
	require.NoError(t, filler.File("deep", Attributes{}, int64(len(content)), bytes.NewReader(content)))
	require.NoError(t, filler.Close())
	run(t, "e2fsck", "-f", "-n", f.Name())
	require.True(t, bytes.Equal(content, dump(t, f, "deep")))
}

// A file has a size beyond all that is stored of it.
func TestLargeHole(t *testing.T) {
	f := blank(t, 16<<20)
	filler, err := Open(f)
	require.NoError(t, err)
	content := io.MultiReader(io.LimitReader(zeros{}, 5<<30), strings.NewReader("end"))
	require.NoError(t, filler.File("hole", Attributes{}, 5<<30+3, content))
	require.ErrorIs(t, filler.File("huge", Attributes{}, maxFile+1, zeros{}), ErrEntry)
	require.NoError(t, filler.Close())
	run(t, "e2fsck", "-f", "-n", f.Name())
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestFull(t *testing.T) {
	f := blank(t, 16<<20, "-N", "32")
	filler, err := Open(f)
	require.NoError(t, err)
	require.ErrorIs(t, filler.File("a", Attributes{}, 20<<20, bytes.NewReader(noise(0, 20<<20))), ErrFull)

	filler, err = Open(blank(t, 16<<20, "-N", "32"))
	require.NoError(t, err)
	n := 0
	for ; err == nil; n++ {
		err = filler.Symlink(fmt.Sprint(n), Attributes{}, "target")
	}
	require.ErrorIs(t, err, ErrFull)
	require.Less(t, n, 40)
}

func TestOpenRefusesOthers(t *testing.T) {
	empty, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer func() { require.NoError(t, empty.Close()) }()
	require.NoError(t, empty.Truncate(1<<20))
	_, err = Open(empty)
	require.ErrorContains(t, err, "it is none")
	require.NoError(t, empty.Truncate(100))
	_, err = Open(empty)
	require.ErrorIs(t, err, io.EOF)

	f := blank(t, 16<<20)
	_, err = Open(blank(t, 16<<20, "-O", features+",inline_data"))
	require.ErrorContains(t, err, "features")
	filler, err := Open(f)
	require.NoError(t, err)
	require.NoError(t, filler.Directory("a", Attributes{}))
	require.NoError(t, filler.Close())
	_, err = Open(f)
	require.ErrorContains(t, err, "not empty")
}

// brokenFrom fails to write from an offset on.
type brokenFrom struct {
	*os.File
	from int64
}

func errBroken() error { return os.ErrDeadlineExceeded }

func (b brokenFrom) WriteAt(p []byte, off int64) (int, error) {
	if off >= b.from {
		return 0, errBroken()
	}
	return b.File.WriteAt(p, off)
}

func TestFailedWritesAreTold(t *testing.T) {
	for _, from := range []int64{0, 4096, 8192, 1 << 20, 5 << 20} {
		filler, err := Open(brokenFrom{blank(t, 16<<20), from})
		require.NoError(t, err)
		err = filler.File("a", Attributes{Extended: map[string]string{"user.a": strings.Repeat("a", 200)}}, 9<<20, bytes.NewReader(noise(1, 9<<20)))
		if err == nil {
			err = filler.Close()
		}
		require.ErrorIs(t, err, errBroken(), from)
	}
}

func TestStamp(t *testing.T) {
	for _, c := range []struct {
		at             time.Time
		seconds, extra uint32
	}{
		{time.Time{}, 0, 0},
		{time.Unix(0, 0), 0, 0},
		{time.Unix(-1, 5), 0xffffffff, 5 << 2},
		{time.Unix(1<<31-1, 999999999), 0x7fffffff, 999999999 << 2},
		{time.Unix(1<<31, 0), 0x80000000, 1},
		{time.Unix(1<<32, 0), 0, 1},
		{time.Unix(1<<34-1<<31-1, 1), 0x7fffffff, 1<<2 | 3},
		{time.Unix(1<<34-1<<31, 1), 0x7fffffff, 3},
		{time.Unix(-1<<31, 0), 0x80000000, 0},
		{time.Unix(-1<<40, 9), 0x80000000, 0},
	} {
		seconds, extra := stamp(c.at)
		require.Equal(t, [2]uint32{c.seconds, c.extra}, [2]uint32{seconds, extra}, "%v", c.at)
	}
}
