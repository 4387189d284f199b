package roller

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/claimshape"
)

// TestCronGoes deletes a cron with a good claim and one that is being imported, and crashes at each
// write of what follows.
func TestCronGoes(t *testing.T) {
	for _, test := range []struct {
		policy *cdiv1.DataImportCronRetentionPolicy
		want   []string
	}{
		{nil, []string{nameOf("a")}},
		{ptr.To(cdiv1.DataImportCronRetainAll), []string{nameOf("a")}},
		{ptr.To(cdiv1.DataImportCronRetainNone), []string{}},
	} {
		run := func(t *testing.T, crashAt int, applied bool) int {
			c := rolled(t, func(cron *cdiv1.DataImportCron) { cron.Spec.RetentionPolicy = test.policy })
			c.stuck = true
			c.want(revisionOf("b"))
			c.run(5)
			before := c.writes
			c.fault = func(n int, apply func() error) error {
				switch {
				case n != before+crashAt:
					return apply()
				case applied:
					return errors.Join(apply(), errCrash)
				}
				return errCrash
			}
			require.NoError(t, c.store.Delete(t.Context(), c.cron()))
			for range 20 {
				c.tick()
			}
			require.False(t, c.find(&cdiv1.DataImportCron{}, "fedora-cron"))
			require.ElementsMatch(t, test.want, c.claimNames())
			require.Equal(t, len(test.want) > 0, c.dataSource() != nil)
			require.Empty(t, c.metric("gild_dataimportcron_outdated"))
			return c.writes - before
		}
		t.Run(string(ptr.Deref(test.policy, "default")), func(t *testing.T) {
			writes := run(t, 0, false)
			require.Greater(t, writes, 1)
			for k := 1; k <= writes; k++ {
				for _, applied := range []bool{false, true} {
					t.Run(fmt.Sprintf("write %d, applied %v", k, applied), func(t *testing.T) {
						t.Parallel()
						run(t, k, applied)
					})
				}
			}
		})
	}
}

// TestCronGoesWhileOurViewLags deletes a cron of which the roller's cache knows no claim yet.
func TestCronGoesWhileOurViewLags(t *testing.T) {
	c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault))
	c.stuck = true
	c.run(3)
	require.Equal(t, []string{nameOf("a")}, c.claimNames())
	require.NoError(t, c.store.Delete(t.Context(), c.cron()))
	c.stale = newStore(t, c.cron())
	c.run(3)
	require.False(t, c.find(&cdiv1.DataImportCron{}, "fedora-cron"))
	require.Empty(t, c.claimNames())
}

// TestCronOfAnotherDataSourceGoes deletes a cron whose DataSource is another cron's.
func TestCronOfAnotherDataSourceGoes(t *testing.T) {
	c := rolled(t)
	rival := desiring(testCron(), revisionOf("b"))
	rival.Name, rival.UID, rival.Spec.RetentionPolicy = "rival", "rival-uid", ptr.To(cdiv1.DataImportCronRetainNone)
	require.NoError(t, c.store.Create(t.Context(), rival))
	c.reconcile("rival")
	require.NoError(t, c.store.Delete(t.Context(), rival))
	c.reconcile("rival")
	require.False(t, c.find(&cdiv1.DataImportCron{}, "rival"))
	require.NotNil(t, c.dataSource())
	require.Equal(t, []string{nameOf("a")}, c.claimNames())
}
