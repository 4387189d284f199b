package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// write makes files below a new folder and returns the folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return root
}

func TestKey(t *testing.T) {
	files := func() map[string]string {
		return map[string]string{"a/go.mod": "module a", "a/go.sum": "sums", "a/tools.go": "package a", "a/deep/x.go": "package deep"}
	}
	g := group{name: "a", dir: "a", module: "a", programs: []program{{"x", "example.org/x"}}}
	key := func(g group, compiler string, files map[string]string) string {
		t.Helper()
		result, err := g.key(write(t, files), compiler)
		require.NoError(t, err)
		require.Len(t, result, 16)
		return result
	}
	want := key(g, "go1", files())

	for name, file := range map[string]string{"a test": "a/x_test.go", "a page": "a/README.md", "another module": "b/go.mod"} {
		t.Run(name+" changes nothing", func(t *testing.T) {
			more := files()
			more[file] = "more"
			require.Equal(t, want, key(g, "go1", more))
		})
	}
	for name, file := range map[string]string{"go.mod": "a/go.mod", "go.sum": "a/go.sum", "a source": "a/deep/x.go", "a new source": "a/y.go"} {
		t.Run(name+" counts", func(t *testing.T) {
			changed := files()
			changed[file] += " changed"
			require.NotEqual(t, want, key(g, "go1", changed))
		})
	}
	t.Run("the compiler counts", func(t *testing.T) { require.NotEqual(t, want, key(g, "go2", files())) })
	t.Run("flags count", func(t *testing.T) {
		for _, change := range []func(*group){
			func(g *group) { g.tags = "seccomp" },
			func(g *group) { g.static = true },
			func(g *group) { g.flags = []string{"-X=a.b=c"} },
			func(g *group) { g.programs = append(g.programs, program{"y", "example.org/y"}) },
		} {
			changed := g
			change(&changed)
			require.NotEqual(t, want, key(changed, "go1", files()))
		}
	})
	t.Run("a missing go.sum is an error", func(t *testing.T) {
		_, err := g.key(write(t, map[string]string{"a/go.mod": "module a"}), "go1")
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestPrune(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "group")
	require.NoError(t, prune(parent, 2))
	require.DirExists(t, parent)
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, name := range []string{"oldest", "older", "newer", "newest"} {
		require.NoError(t, os.MkdirAll(filepath.Join(parent, name, "deep"), 0o755))
		used := start.Add(time.Duration(i) * time.Hour)
		require.NoError(t, os.Chtimes(filepath.Join(parent, name), used, used))
	}
	require.NoError(t, prune(parent, 2))
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, "newer", entries[0].Name())
	require.Equal(t, "newest", entries[1].Name())
}

func TestInvocations(t *testing.T) {
	g := group{programs: []program{{"one", "example.org/cmd/one"}, {"named", "example.org/v3"}, {"two", "example.org/cmd/two"}}}
	require.Equal(t, [][]string{
		{"-o", "/out/named", "example.org/v3"},
		{"-o", "/out/", "example.org/cmd/one", "example.org/cmd/two"},
	}, g.invocations("/out"))
}

// checkout is the cluster of this checkout, without a running one.
func checkout(t *testing.T) *cluster {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	return newCluster(folders{root: root, cache: t.TempDir(), cluster: t.TempDir()}, io.Discard)
}

func TestEveryGroupCanBeBuilt(t *testing.T) {
	c := checkout(t)
	names := map[string]string{}
	for _, g := range append(groups(), sanityGroup()) {
		dir, err := c.groupDir(g)
		require.NoError(t, err)
		flags, err := c.linkerFlags(t.Context(), g)
		require.NoError(t, err)
		require.NotContains(t, flags, "{", "every version is filled in")
		for _, p := range g.programs {
			require.Empty(t, names[p.name], "two groups build %s", p.name)
			names[p.name] = filepath.Join(dir, p.name)
		}
	}
	for _, p := range c.components() {
		command, err := c.command(p)
		require.NoError(t, err)
		require.Contains(t, names, filepath.Base(command.Path))
		require.Equal(t, names[filepath.Base(command.Path)], command.Path)
	}
	_, err := c.binary("no-such-program")
	require.Error(t, err)
}

func TestLinkerFlagsNameVersions(t *testing.T) {
	root := write(t, map[string]string{"a/go.mod": "module a\n\nrequire example.org/x/v2 v2.3.4\n"})
	c := newCluster(folders{root: root}, io.Discard)
	flags, err := c.linkerFlags(t.Context(), group{module: "a", flags: []string{"-X=p.version={example.org/x/v2}"}})
	require.NoError(t, err)
	require.Equal(t, "-s -w -X=p.version=v2.3.4", flags)
	_, err = c.linkerFlags(t.Context(), group{name: "a", module: "a", flags: []string{"-X=p.version={example.org/y}"}})
	require.ErrorContains(t, err, "lacks a module")
}
