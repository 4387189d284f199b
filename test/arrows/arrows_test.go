// Package arrows checks who imports whom: the rooms of the program and the arrows
// between them. The same rules stand in .golangci.yml, which shows them while one types.
package arrows

import (
	"go/build"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module = "github.com/gild-project/gild/"
	root   = "../.."
)

// Every package of ours and the packages of ours it may import. A package that is not
// here may not exist: a new one is a decision.
var arrows = map[string][]string{
	"pkg/apis/virtualization/v1alpha1": {},
	"pkg/source":                       {},
	"pkg/registry":                     {"pkg/source", "pkg/format/refusal"},
	"pkg/layer":                        {"pkg/format/refusal", "pkg/format/compress"},
	"pkg/rootfs":                       {"pkg/rootfs/ext4", "pkg/format/refusal", "pkg/format/confine"},
	"pkg/rootfs/ext4":                  {},
	"pkg/format":                       {"pkg/format/refusal", "pkg/format/confine", "pkg/format/nbd"},
	"pkg/format/refusal":               {},
	"pkg/format/confine":               {"pkg/format/refusal"},
	"pkg/format/inflate":               {},
	"pkg/format/compress":              {"pkg/format/refusal", "pkg/format/confine"},
	"pkg/format/qcow2":                 {"pkg/format/refusal", "pkg/format/inflate"},
	"pkg/format/vmdk":                  {"pkg/format/refusal", "pkg/format/inflate"},
	"pkg/format/nbd":                   {},
	"pkg/target":                       {},
	"pkg/exporter":                     {},
	"pkg/podevents":                    {},
	"pkg/restricted":                   {},
	"pkg/export":                       {"pkg/podevents", "pkg/restricted"},
	"pkg/importer":                     {},
	"pkg/golden":                       {"pkg/apis/virtualization/v1alpha1"},
	"pkg/cdi":                          {},
	"pkg/cdi/generate":                 {"pkg/cdi"},
	"pkg/credentials":                  {"pkg/apis/virtualization/v1alpha1"},
	"pkg/imagestream":                  {},
	"pkg/snapshot":                     {},
	"pkg/grant":                        {"pkg/golden"},
	"pkg/strategy":                     {"pkg/apis/virtualization/v1alpha1"},
	"pkg/trim":                         {"pkg/apis/virtualization/v1alpha1", "pkg/golden"},
	"pkg/poller":                       {"pkg/apis/virtualization/v1alpha1", "pkg/golden", "pkg/credentials", "pkg/imagestream", "pkg/grant"},
	"pkg/roller":                       {"pkg/apis/virtualization/v1alpha1", "pkg/golden", "pkg/datasource", "pkg/claimshape"},
	"pkg/claimshape":                   {},
	"pkg/storageprofile":               {"pkg/golden"},
	"pkg/cdiconfig":                    {"pkg/claimshape"},
	"pkg/datavolume":                   {"pkg/apis/virtualization/v1alpha1", "pkg/golden", "pkg/datasource", "pkg/claimshape", "pkg/grant", "pkg/snapshot"},
	"pkg/datasource":                   {"pkg/apis/virtualization/v1alpha1", "pkg/golden"},
	"pkg/populator": {"pkg/apis/virtualization/v1alpha1", "pkg/importer", "pkg/golden", "pkg/cdi", "pkg/credentials", "pkg/imagestream",
		"pkg/datasource", "pkg/strategy", "pkg/snapshot", "pkg/grant", "pkg/export", "pkg/podevents", "pkg/restricted"},
	"cmd/importer": {"pkg/importer", "pkg/source", "pkg/format", "pkg/target",
		"pkg/format/compress", "pkg/format/qcow2", "pkg/format/vmdk", "pkg/format/refusal", "pkg/registry", "pkg/layer", "pkg/rootfs", "pkg/exporter"},
	"cmd/populator": {"pkg/populator", "pkg/apis/virtualization/v1alpha1", "pkg/cdi", "pkg/datavolume", "pkg/storageprofile", "pkg/cdiconfig", "pkg/grant", "pkg/snapshot"},
	"cmd/poller": {"pkg/poller", "pkg/credentials", "pkg/roller", "pkg/datasource", "pkg/trim", "pkg/golden", "pkg/cdi", "pkg/grant", "pkg/source", "pkg/registry",
		"pkg/apis/virtualization/v1alpha1"},
}

// The data path knows nothing of Kubernetes.
var withoutKubernetes = []string{"pkg/source", "pkg/registry", "pkg/layer", "pkg/rootfs", "pkg/format", "pkg/target", "pkg/importer", "pkg/exporter", "cmd/importer"}

func TestArrows(t *testing.T) {
	for dir, p := range packages(t) {
		t.Run(dir, func(t *testing.T) {
			allowed, known := arrows[dir]
			require.True(t, known, "%s is in no row of the table of arrows", dir)
			for _, imported := range p.Imports {
				if ours, ok := strings.CutPrefix(imported, module); ok {
					require.Contains(t, allowed, ours, "%s must not import %s", dir, ours)
				}
			}
		})
	}
}

func TestOnlyConfineStartsPrograms(t *testing.T) {
	for dir, p := range packages(t) {
		if dir != "pkg/format/confine" {
			require.NotContains(t, p.Imports, "os/exec", "%s must not start programs: only pkg/format/confine does, under limits", dir)
		}
	}
}

func TestDataPathHasNoKubernetes(t *testing.T) {
	existing := packages(t)
	for _, dir := range withoutKubernetes {
		if _, ok := existing[dir]; !ok {
			continue
		}
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+dir)
		list.Dir = root
		out, err := list.Output()
		require.NoError(t, err)
		for dependency := range strings.Lines(string(out)) {
			for _, prefix := range []string{"k8s.io/", "sigs.k8s.io/", "kubevirt.io/"} {
				require.False(t, strings.HasPrefix(dependency, prefix), "%s reaches %s", dir, dependency)
			}
		}
	}
}

// packages reads every folder with Go files below pkg and cmd.
func packages(t *testing.T) map[string]*build.Package {
	t.Helper()
	found := map[string]*build.Package{}
	for _, top := range []string{"pkg", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			dir, err := filepath.Rel(root, filepath.Dir(name))
			if err != nil || found[path.Clean(dir)] != nil {
				return err
			}
			found[path.Clean(dir)], err = build.ImportDir(filepath.Dir(name), 0)
			return err
		})
		require.NoError(t, err)
	}
	require.Greater(t, len(found), 3)
	return found
}
