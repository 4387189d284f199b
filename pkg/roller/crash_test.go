package roller

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

func itemsOf(t *testing.T, list client.ObjectList) []client.Object {
	t.Helper()
	items, err := meta.ExtractList(list)
	require.NoError(t, err)
	var all []client.Object
	for _, item := range items {
		o, ok := item.(client.Object)
		require.True(t, ok)
		all = append(all, o)
	}
	return all
}

func nameOf(c string) string { return golden.ClaimName("fedora", digestOf(c)) }

// story is something that happens to a cron. It ends with these claims.
type story struct {
	name  string
	tell  func(c *cluster)
	holds string
	keep  int32
	// left says that CDI has served the cron before.
	left bool
	want []string
	// made is how many claims a run without a fault makes.
	made int
}

func stories() []story {
	revision := revisionOf
	first := func(c *cluster) { c.settle(c.holds(revision("a"))) }
	return []story{
		{name: "first import", tell: first, holds: "a", want: []string{nameOf("a")}, made: 1},
		{name: "a newer revision", tell: func(c *cluster) {
			first(c)
			c.want(revision("b"))
		}, holds: "b", want: []string{nameOf("a"), nameOf("b")}, made: 2},
		{name: "a newer revision while the first is imported", tell: func(c *cluster) {
			c.run(3)
			c.want(revision("b"))
		}, holds: "b", want: []string{nameOf("b")}, made: 2},
		{name: "back to an earlier revision", tell: func(c *cluster) {
			first(c)
			c.want(revision("b"))
			c.settle(c.holds(revision("b")))
			c.want(revision("a"))
		}, holds: "a", want: []string{nameOf("a"), nameOf("b")}, made: 2},
		{name: "back while the newer one is imported", tell: func(c *cluster) {
			first(c)
			c.want(revision("b"))
			c.run(3)
			c.want(revision("a"))
		}, holds: "a", want: []string{nameOf("a")}, made: 2},
		{name: "a failing revision between two good ones", tell: func(c *cluster) {
			first(c)
			good := c.end
			c.end = func(r *golden.Revision) (string, string) {
				if r.Digest == digestOf("b") {
					return "", "ChecksumMismatch"
				}
				return good(r)
			}
			c.want(revision("b"))
			c.run(40)
			c.want(revision("c"))
		}, holds: "c", want: []string{nameOf("a"), nameOf("c")}, made: 3},
		{name: "the same bytes under a new revision", tell: func(c *cluster) {
			c.end = func(*golden.Revision) (string, string) { return "sha256:the same", "" }
			first(c)
			c.want(revision("b"))
		}, holds: "b", want: []string{nameOf("a")}, made: 2},
		{name: "another StorageClass", tell: func(c *cluster) {
			first(c)
			c.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Storage.StorageClassName = ptr.To("slow") })
			c.settle(func() bool { return len(c.claimNames()) == 2 && c.holds(revision("a"))() })
		}, holds: "a", want: []string{nameOf("a"), golden.SecondClaimName("fedora", digestOf("a"), "slow")}, made: 2},
		{name: "one is kept of three", tell: func(c *cluster) {
			first(c)
			for _, next := range []string{"b", "c"} {
				c.want(revision(next))
				c.settle(c.holds(revision(next)))
			}
		}, holds: "c", keep: 1, want: []string{nameOf("c")}, made: 3},
	}
}

func (s *story) run(t *testing.T, arm func(c *cluster)) *cluster {
	objects := []client.Object{desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault), testClass("slow")}
	if s.left {
		objects = leftByCDI()
	}
	if cron, ok := objects[0].(*cdiv1.DataImportCron); ok && s.keep > 0 {
		cron.Spec.ImportsToKeep = &s.keep
	}
	c := newCluster(t, objects...)
	if arm != nil {
		arm(c)
	}
	s.tell(c)
	c.settle(c.holds(revisionOf(s.holds)))
	c.settle(func() bool { return len(c.claimNames()) == len(s.want) })
	require.ElementsMatch(t, s.want, c.claimNames())
	for _, claim := range c.claims() {
		require.Equal(t, "yes", claim.Annotations[annotationOfOthers], "what others have written was lost")
		require.Equal(t, "yes", claim.Labels[annotationOfOthers])
		require.NotEmpty(t, claim.Finalizers)
		require.NotEmpty(t, claim.Spec.Resources.Requests)
	}
	return c
}

// everyWrite tells each story once as it is, and then once more for each of its writes and faults:
// for all of them, or for one in turn.
func everyWrite(t *testing.T, all bool, faults []string, arm func(c *cluster, write int, fault string)) {
	for _, s := range append(stories(), leftStories()[0]) {
		t.Run(s.name, func(t *testing.T) {
			whole := s.run(t, nil)
			require.Equal(t, s.made, whole.made)
			require.Greater(t, whole.writes, 4)
			for k := 1; k <= whole.writes; k++ {
				some := faults
				if !all {
					some = faults[k%len(faults):][:1]
				}
				for _, fault := range some {
					t.Run(fmt.Sprintf("write %d, %s", k, fault), func(t *testing.T) {
						t.Parallel()
						c := s.run(t, func(c *cluster) { arm(c, k, fault) })
						require.Equal(t, s.made, c.made, "claims made")
					})
				}
			}
		})
	}
}

// TestRollCrashesAtEveryWrite crashes the poller at each of its writes, once before and once after the
// write is applied: whatever happens, it ends as if it had not, and at no moment does the DataSource
// name a claim that is not filled.
func TestRollCrashesAtEveryWrite(t *testing.T) {
	everyWrite(t, true, []string{"crash before", "crash after"}, func(c *cluster, write int, fault string) {
		c.fault = func(n int, apply func() error) error {
			switch {
			case n != write:
				return apply()
			case fault == "crash after":
				return errors.Join(apply(), errCrash)
			}
			return errCrash
		}
	})
}

// TestRollFailsAtEveryWrite has the API server fail at each write, in one way after the other.
func TestRollFailsAtEveryWrite(t *testing.T) {
	everyWrite(t, false, []string{"conflict", "too many requests", "ghost timeout"}, func(c *cluster, write int, fault string) {
		c.fault = func(n int, apply func() error) error {
			switch {
			case n != write:
				return apply()
			case fault == "conflict":
				return apierrors.NewConflict(schema.GroupResource{}, "x", errors.New("written since"))
			case fault == "too many requests":
				return apierrors.NewTooManyRequests("later", 1)
			}
			return errors.Join(apply(), apierrors.NewTimeoutError("no answer", 1))
		}
	})
}

// TestRollLagsAtEveryWrite freezes the roller's view of the world after each write, for a minute.
func TestRollLagsAtEveryWrite(t *testing.T) {
	everyWrite(t, true, []string{"lag"}, func(c *cluster, write int, _ string) {
		frozen := 0
		c.fault = func(n int, apply func() error) error {
			if n == write {
				c.lag()
			}
			return apply()
		}
		c.eachRound = func() {
			if c.stale != nil {
				if frozen++; frozen > 10 {
					c.stale, c.eachRound, c.seen = nil, nil, -1 // it is told of what it has missed
				}
			}
		}
	})
}
