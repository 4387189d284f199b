//go:build e2e

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Two builds of one commit from two empty caches, root filesystems from Debian's
// archive included, are the same to the byte.
func TestImagesAreReproducible(t *testing.T) {
	for name, folder := range map[string]string{"gild-controller": "images/controller", "gild-importer": "images/importer"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var builds [2][]byte
			for i := range builds {
				cache := t.TempDir()
				build := exec.CommandContext(t.Context(), "../image.sh", name, folder)
				// No engine answers there: Docker keeps its own times.
				build.Env = append(os.Environ(), "GILD_CACHE="+cache, "DOCKER_HOST=unix://"+cache+"/none")
				output, err := build.CombinedOutput()
				require.NoError(t, err, "%s", output)
				builds[i], err = os.ReadFile(filepath.Join(cache, "images", name+".tar"))
				require.NoError(t, err)
			}
			require.NotEmpty(t, builds[0])
			require.True(t, string(builds[0]) == string(builds[1]), "the two builds differ")
		})
	}
}
