package leftover

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMountsBelow(t *testing.T) {
	const table = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:5 / /srv/cluster rw - tmpfs tmpfs rw
41 40 0:6 / /srv/cluster/kubelet/pods/a rw,relatime shared:2 - tmpfs tmpfs rw
42 41 7:0 / /srv/cluster/kubelet/pods/a/with\040space rw - ext4 /dev/loop0 rw
43 22 0:7 / /srv/cluster-of-another/run rw - tmpfs tmpfs rw
44 22 0:7 / /other rw - tmpfs /srv/cluster/source rw
broken
`
	want := []string{"/srv/cluster/kubelet/pods/a", "/srv/cluster/kubelet/pods/a/with space"}
	require.Equal(t, want, mountsBelow(table, "/srv/cluster"))
	require.Equal(t, want, mountsBelow(table, "/srv/cluster/"))
	require.Empty(t, mountsBelow(table, "/srv/cluster/kubelet/pods/a/with space"))
}

func TestLoopsBelow(t *testing.T) {
	block := t.TempDir()
	for name, file := range map[string]string{
		"loop0": "/srv/cluster/volumes/a.img",
		"loop1": "/dev/loop0",
		"loop2": "/srv/cluster-of-another/b.img",
		"loop3": "/dev/loop2",
		"loop4": "/srv/cluster/volumes/c.img (deleted)",
	} {
		dir := filepath.Join(block, name, "loop")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "backing_file"), []byte(file+"\n"), 0o644))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(block, "loop5"), 0o755), "a free device has no folder named loop")

	names, err := loopsBelow(block, "/srv/cluster")
	require.NoError(t, err)
	require.Equal(t, "loop1", names[0], "what is stacked on another device is freed first")
	require.ElementsMatch(t, []string{"loop0", "loop1", "loop4"}, names)
}

func TestGroupsIn(t *testing.T) {
	group := func(t *testing.T, path ...string) {
		t.Helper()
		dir := filepath.Join(path...)
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.procs"), nil, 0o644))
	}
	t.Run("version 2", func(t *testing.T) {
		root := t.TempDir()
		group(t, root)
		group(t, root, "ours")
		groups, err := groupsIn(root, "ours")
		require.NoError(t, err)
		require.Equal(t, []string{filepath.Join(root, "ours")}, groups)
	})
	t.Run("version 1", func(t *testing.T) {
		root := t.TempDir()
		for _, controller := range []string{"memory", "cpu,cpuacct", "pids"} {
			group(t, root, controller)
		}
		require.NoError(t, os.Symlink("cpu,cpuacct", filepath.Join(root, "cpu")))
		require.NoError(t, os.Mkdir(filepath.Join(root, "not-a-hierarchy"), 0o755))
		group(t, root, "memory", "ours")
		group(t, root, "cpu,cpuacct", "ours")
		groups, err := groupsIn(root, "ours")
		require.NoError(t, err)
		require.ElementsMatch(t, []string{filepath.Join(root, "memory", "ours"), filepath.Join(root, "cpu,cpuacct", "ours")}, groups)
	})
}
