package datavolume

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// TestCrashesAtEveryWrite ends the process before and after each write of a DataVolume's life: it ends with the
// disk all the same, and with one claim.
func TestCrashesAtEveryWrite(t *testing.T) {
	for name, story := range map[string]struct{ source, form string }{
		"import":               {fromHTTP, storage},
		"copy":                 {fromClaim, unsized},
		"copy from elsewhere":  {fromElsewhere, unsized},
		"copy of a DataSource": {fromDataSource, storage},
		"blank":                {`source: {blank: {}}`, storage},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(t *testing.T, crashAt int, applied bool) int {
				to := &cdiv1.DataVolumeSourcePVC{Name: "gold"}
				w := newWorld(t, aVolume(t, story.source, story.form), immediate(), gold("vms"), gold("images"), fedora("vms", to), fedora("images", to))
				w.granted["PersistentVolumeClaim images/gold"] = true
				w.fault = func(n int, apply func() error) error {
					if n != crashAt {
						return apply()
					}
					if applied {
						require.NoError(t, apply())
					}
					return errCrash
				}
				crashed := false
				for range 30 {
					before := w.version()
					_, err := w.step()
					if errors.Is(err, errCrash) {
						crashed = true
						w.restart()
						continue
					}
					require.NoError(t, err)
					if w.version() == before {
						break
					}
				}
				require.Equal(t, crashAt > 0, crashed)
				w.requireDone()
				var claims corev1.PersistentVolumeClaimList
				require.NoError(t, w.store.List(t.Context(), &claims))
				require.Len(t, claims.Items, 3, "the claim, and the two that may be copied")
				var sources cdiv1.DataSourceList
				require.NoError(t, w.store.List(t.Context(), &sources))
				require.Len(t, sources.Items, 2, "none of ours is left")
				var images v1alpha1.VMDiskImageList
				require.NoError(t, w.store.List(t.Context(), &images))
				require.LessOrEqual(t, len(images.Items), 1)
				return w.writes
			}
			writes := run(t, 0, false)
			require.Greater(t, writes, 2)
			for n := 1; n <= writes; n++ {
				run(t, n, false)
				run(t, n, true)
			}
		})
	}
}
