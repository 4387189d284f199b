package rootfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// parse makes entries of text: one a line, with its type, name, link, content, and the name and
// value of an extended attribute between tabs. Archives would mostly be stopped by their checksums.
func parse(text string) []item {
	var items []item
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			continue
		}
		fields := append(strings.Split(line[1:], "\t"), "", "", "", "")
		i := link(line[0], fields[0], fields[1])
		i.content = []byte(fields[2])
		i.Mode, i.Uid, i.Devminor = int64(len(line))*0o111, len(fields[0]), int64(len(fields[1]))
		i.ModTime = time.Unix(int64(len(text))<<20, 0)
		if fields[3] != "" {
			i.PAXRecords = map[string]string{"SCHILY.xattr." + fields[3]: fields[4]}
		}
		items = append(items, i)
	}
	return items
}

func seed(f *testing.F) {
	f.Helper()
	f.Add("5.\n5a\n0a/b\t\tcontent\tuser.note\tvalue\n2c\ta/b\n1d\ta/b\n1e\tc\n3dev\n6fifo\n")
	f.Add("0a/../../b\n0/etc/passwd\t\tx\n1d\t../b\n0lost+found/a\n5lost+found\n0.gild-partial/moving\t\tx\n")
	f.Add("2a\t..\n0a/b\t\tx\n5a\n1b\ta/b\n")
	f.Add("5a\t\t\tsystem.posix_acl_default\t" + strings.ReplaceAll(accessControl, "\n", "") + "\n4b\t\t\tsecurity.capability\t" + capability + "\n")
}

// e2fsck finds what is wrong with a file system, whatever the entries are.
func FuzzExt4(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		_, err := Ext4(t.Context(), entriesOf(parse(text)), scratch(t, t.TempDir()), MinSize, Options{})
		if err != nil {
			require.NotContains(t, []string{"", refusal.InternalError}, reasonOf(err), "%v", err)
		}
	})
}

// Whatever the entries are, nothing gets outside of the volume, and all of it can be removed.
// The tree is not moved to its place here: that would sync the disk of the machine each time.
func FuzzTree(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		top := t.TempDir()
		place := filepath.Join(top, "a", "volume")
		require.NoError(t, os.MkdirAll(place, 0o700))
		v, err := openVolume(place)
		require.NoError(t, err)
		w, err := v.newTree()
		require.NoError(t, err)
		for _, i := range parse(text) {
			if err = w.add(t.Context(), entry(i)); err != nil {
				break
			}
		}
		if err == nil {
			err = w.settle(w.root, func(string) bool { return true })
		}
		if err != nil {
			require.NotContains(t, []string{"", refusal.InternalError, refusal.TargetError}, reasonOf(onVolume(err)), "%v", err)
		}
		w.close()
		names, err := list(v.root, ".")
		require.NoError(t, err)
		require.Equal(t, []string{partial}, names)
		require.NoError(t, v.clear())
		require.NoError(t, v.root.Close())
		for dir, want := range map[string]int{place: 0, filepath.Dir(place): 1, top: 1} {
			names, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, names, want)
		}
	})
}
