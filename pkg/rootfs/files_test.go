package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// asFiles are the entries that are expected of everything on a volume.
func asFiles() []item {
	return slices.DeleteFunc(everything(), func(i item) bool {
		return i.Name == "." || slices.Contains([]byte{tar.TypeChar, tar.TypeBlock, tar.TypeFifo}, i.Typeflag)
	})
}

func TestFilesAsRoot(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	var notices []string
	require.NoError(t, Files(t.Context(), entriesOf(everything()), dir, Options{Notice: func(s string) { notices = append(notices, s) }}))
	expectTree(t, dir, asFiles(), true)
	require.Equal(t, []string{"left out of the files: device nodes and FIFOs: 3, extended attributes: 0, entries of lost+found: 0"}, notices)
}

func TestFilesAsUser(t *testing.T) {
	dir := groupVolume(t)
	out, err := child(t, dir, -1).CombinedOutput()
	require.NoError(t, err, "%s", out)
	items := asFiles()
	for n := range items {
		// The group of the volume is handed down.
		if items[n].Typeflag == tar.TypeDir {
			items[n].Mode |= 0o2000
		}
	}
	expectTree(t, dir, items, false)
	require.Equal(t, "left out of the files: device nodes and FIFOs: 3, extended attributes: 6, entries of lost+found: 0\n", string(out))
	if os.Geteuid() == 0 {
		command(t, "sh", "-c", `[ -z "$(find "$1" -mindepth 1 \( ! -uid 107 -o ! -gid 4711 \) -print -quit)" ]`, "sh", dir)
	}
}

func TestKilledRunIsForgotten(t *testing.T) {
	for _, stop := range []int{0, 13, 30} {
		dir := groupVolume(t)
		require.NoError(t, os.Mkdir(filepath.Join(dir, lostFound), 0o700))
		killedAt(t, dir, stop)
		names, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, names, 2, "nothing is in its place before all is written")
		out, err := child(t, dir, -1).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.NoDirExists(t, filepath.Join(dir, partial))
		require.FileExists(t, filepath.Join(dir, "etc/passwd"))
	}
}

// A run that is killed between two moves leaves some of the tree at its place.
func TestKilledWhileMoving(t *testing.T) {
	for _, moved := range []int{0, 1, 3} {
		volume := t.TempDir()
		items := []item{file("a", "1"), dir("b", 0o555), file("b/in", "2"), file("c", "3")}
		v, err := openVolume(volume)
		require.NoError(t, err)
		w, err := v.newTree()
		require.NoError(t, err)
		for entry, err := range entriesOf(items) {
			require.NoError(t, err)
			require.NoError(t, w.add(t.Context(), entry))
		}
		require.NoError(t, v.place())
		for _, name := range []string{"a", "b", "c"}[moved:] {
			require.NoError(t, v.root.Rename(name, aside+"/"+name))
		}
		w.close()
		require.NoError(t, v.root.Close())

		require.NoError(t, Files(t.Context(), entriesOf([]item{file("other", "x")}), volume, Options{}))
		expectTree(t, volume, []item{file("other", "x")}, os.Geteuid() == 0)
	}
}

func TestForeignFilesAreRefused(t *testing.T) {
	volume := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(volume, "theirs"), []byte("x"), 0o600))
	err := Files(t.Context(), entriesOf([]item{file("theirs", "y")}), volume, Options{})
	require.Equal(t, refusal.TargetError, reasonOf(err))
	require.ErrorContains(t, err, `"theirs"`)
	content, err := os.ReadFile(filepath.Join(volume, "theirs"))
	require.NoError(t, err)
	require.Equal(t, "x", string(content))
}

// A list of moves that was cut says nothing: what it seems to name may be of somebody else.
func TestCutListRemovesNothing(t *testing.T) {
	volume := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(volume, partial), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(volume, moving), []byte("theirs\x00"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(volume, "theirs"), []byte("x"), 0o600))
	require.Equal(t, refusal.TargetError, reasonOf(Files(t.Context(), entriesOf(nil), volume, Options{})))
	require.FileExists(t, filepath.Join(volume, "theirs"))
}

func TestHostileEntriesStayInside(t *testing.T) {
	const corrupt, unsafe = refusal.CorruptImage, refusal.UnsafeImage
	for name, c := range map[string]struct {
		items  []item
		reason string
	}{
		"climbs":                      {[]item{file("../../outside/victim", "x")}, unsafe},
		"climbs in between":           {[]item{file("a/../../outside/victim", "x")}, unsafe},
		"climbs and comes back":       {[]item{file("a/../b", "x")}, unsafe},
		"hard link climbs":            {[]item{link(tar.TypeLink, "a", "../outside/victim")}, unsafe},
		"reserved":                    {[]item{file(".gild-partial/moving", "victim\x00\x00")}, unsafe},
		"below a link":                {[]item{link(tar.TypeSymlink, "a", "../../../outside"), file("a/victim", "x")}, corrupt},
		"below a link inside":         {[]item{dir("b", 0o755), link(tar.TypeSymlink, "a", "b"), file("a/victim", "x")}, corrupt},
		"onto a link":                 {[]item{link(tar.TypeSymlink, "a", "../../../outside/victim"), file("a", "x")}, corrupt},
		"directory onto a link":       {[]item{link(tar.TypeSymlink, "a", "../../../outside"), dir("a", 0o777)}, corrupt},
		"hard link through a link":    {[]item{link(tar.TypeSymlink, "a", "../../../outside"), link(tar.TypeLink, "b", "a/victim")}, corrupt},
		"hard link to nothing":        {[]item{link(tar.TypeLink, "b", "a")}, corrupt},
		"hard link to a directory":    {[]item{dir("a", 0o755), link(tar.TypeLink, "b", "a")}, corrupt},
		"hard link of a directory":    {[]item{dir("a", 0o755), file("c", ""), link(tar.TypeLink, "a", "c")}, corrupt},
		"below a file":                {[]item{file("a", "x"), file("a/b", "x")}, corrupt},
		"twice":                       {[]item{file("a", "x"), file("./a", "x")}, corrupt},
		"zero byte":                   {[]item{file("a\x00b", "x")}, corrupt},
		"too long":                    {[]item{file("disk/"+strings.Repeat("a", 5000), "x")}, refusal.ConversionFailed},
		"unknown type":                {[]item{link('Z', "a", "")}, refusal.ConversionFailed},
		"link to nowhere":             {[]item{link(tar.TypeSymlink, "a", "")}, refusal.ConversionFailed},
		"link with a zero byte":       {[]item{link(tar.TypeSymlink, "a", "b\x00c")}, refusal.ConversionFailed},
		"long link":                   {[]item{link(tar.TypeSymlink, "a", strings.Repeat("a", 4096))}, refusal.ConversionFailed},
		"absolute link":               {[]item{link(tar.TypeSymlink, "a", "/etc/passwd")}, ""},
		"absolute name":               {[]item{file("/etc/cron.d/x", "x")}, ""},
		"hard link to a device":       {[]item{device(tar.TypeChar, "a", 1, 3), link(tar.TypeLink, "b", "a")}, ""},
		"hard link to a link":         {[]item{link(tar.TypeSymlink, "a", "../../../outside/victim"), link(tar.TypeLink, "b", "a")}, ""},
		"in lost+found":               {[]item{dir(lostFound, 0o755), file("lost+found/a", "x")}, ""},
		"link in place of lost+found": {[]item{link(tar.TypeSymlink, lostFound, "../outside")}, ""},
		"root is a link":              {[]item{link(tar.TypeSymlink, ".", "../outside")}, corrupt},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			volume, victim := filepath.Join(top, "volume"), filepath.Join(top, "outside", "victim")
			require.NoError(t, os.Mkdir(volume, 0o700))
			require.NoError(t, os.Mkdir(filepath.Dir(victim), 0o700))
			require.NoError(t, os.WriteFile(victim, []byte("unharmed"), 0o640))
			before, err := os.Stat(victim)
			require.NoError(t, err)

			err = Files(t.Context(), entriesOf(c.items), volume, Options{})
			require.Equal(t, c.reason, reasonOf(err), "%v", err)
			if c.reason == "" {
				require.NoError(t, err)
			} else {
				expectTree(t, volume, nil, false)
			}
			after, err := os.Stat(victim)
			require.NoError(t, err)
			require.Equal(t, before, after)
			siblings, err := os.ReadDir(top)
			require.NoError(t, err)
			require.Len(t, siblings, 2)
			outside, err := os.ReadDir(filepath.Dir(victim))
			require.NoError(t, err)
			require.Len(t, outside, 1)
		})
	}
}

func TestFullVolume(t *testing.T) {
	needRoot(t)
	volume, _ := mounted(t, "-t", "tmpfs", "-o", "size=8m", "gild-test")
	err := Files(t.Context(), entriesOf(append([]item{dir("a", 0o555)}, everything()...)), volume, Options{})
	require.Equal(t, refusal.NoSpace, reasonOf(err), "%v", err)
	require.ErrorContains(t, err, "ask for a larger one")
	expectTree(t, volume, nil, true)
	require.NoError(t, Files(t.Context(), entriesOf([]item{file("small", "fits")}), volume, Options{}))
}

func TestFailingSourceLeavesNothing(t *testing.T) {
	broken := errors.New("connection lost")
	for name, c := range map[string]struct {
		entries func(yield func(Entry, error) bool)
		want    error
	}{
		"between entries": {func(yield func(Entry, error) bool) {
			_ = yield(entry(dir("a", 0o555)), nil) && yield(entry(file("a/b", "x")), nil) && yield(Entry{}, broken)
		}, broken},
		"cut content": {func(yield func(Entry, error) bool) {
			h := file("a", "").Header
			h.Size = 5
			yield(Entry{Header: &h, Content: strings.NewReader("four")}, nil)
		}, io.ErrUnexpectedEOF},
		"no content": {func(yield func(Entry, error) bool) {
			h := file("a", "").Header
			h.Size = 5
			yield(Entry{Header: &h}, nil)
		}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			volume := t.TempDir()
			err := Files(t.Context(), c.entries, volume, Options{})
			require.ErrorIs(t, err, c.want)
			require.Empty(t, reasonOf(err), "the source gives the reason")
			expectTree(t, volume, nil, false)

			_, err = Ext4(t.Context(), c.entries, scratch(t, t.TempDir()), 64<<20, Options{})
			require.ErrorIs(t, err, c.want)
			require.Empty(t, reasonOf(err), "the source gives the reason")
		})
	}
}

func TestInterrupted(t *testing.T) {
	why := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	entries := func(yield func(Entry, error) bool) {
		if yield(entry(file("a", "x")), nil) {
			cancel(why)
			yield(entry(file("b", "x")), nil)
		}
	}
	volume := t.TempDir()
	require.ErrorIs(t, Files(ctx, entries, volume, Options{}), why)
	expectTree(t, volume, nil, false)
	_, err := Ext4(ctx, entries, scratch(t, t.TempDir()), 64<<20, Options{})
	require.ErrorIs(t, err, why)
}
