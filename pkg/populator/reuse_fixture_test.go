package populator

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// crowd is a world with several claims of one image.
type crowd struct {
	*world

	// read and completed are the Jobs that have ended, by name: those that download, and those that prove.
	read, completed map[string][]string
	// reading and completing are how they end; nil for well.
	reading, completing func(claim string, attempt int32) (int32, string)
	// restored are the claims whose PVC' was made from a snapshot, and of which.
	restored map[string]string
}

const (
	crowdRead      = `{"reason":"Imported","etag":"\"one\"","sourceFormat":"qcow2","virtualSize":1024,"transferredBytes":512,"seconds":1}`
	crowdCompleted = `{"reason":"Imported","sourceFormat":"raw","virtualSize":4294967296,"seconds":0.5}`
)

// claimOfCrowd is the nth claim of a crowd.
func claimOfCrowd(n int) *corev1.PersistentVolumeClaim {
	claim := testClaim()
	if n > 1 {
		claim.Name, claim.UID = fmt.Sprintf("web-%d", n), types.UID(fmt.Sprintf("claim-%d", n))
	}
	return claim
}

// newCrowd has three claims of a private image, and storage that takes snapshots. change may make it another one.
func newCrowd(t *testing.T, change func(image *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim), more ...client.Object) *crowd {
	t.Helper()
	image, claims := privateImage(), []*corev1.PersistentVolumeClaim{claimOfCrowd(1), claimOfCrowd(2), claimOfCrowd(3)}
	if change != nil {
		change(image, claims)
	}
	objects := append([]client.Object{image, login("pw"), ca(), fastClass(), snapshotClass()}, more...)
	var names []string
	for _, claim := range claims {
		objects, names = append(objects, claim), append(names, claim.Name)
	}
	c := &crowd{world: newWorld(t, objects...), read: map[string][]string{}, completed: map[string][]string{}, restored: map[string]string{}}
	c.names = names
	c.endOf = func(job *batchv1.Job) (int32, string) {
		key, _ := claimKey(job.Annotations)
		args := job.Spec.Template.Spec.Containers[0].Args
		jobs, how, good := c.read, c.reading, crowdRead
		if args[0] == "complete" {
			jobs, how, good = c.completed, c.completing, crowdCompleted
		}
		jobs[key.Name] = args
		if how != nil {
			return how(key.Name, attemptOf(job))
		}
		return 0, good
	}
	return c
}

// boundAll reports whether all claims have their disks. It notes on the way what PVC's were made from.
func (c *crowd) boundAll() bool {
	all := true
	for _, name := range c.names {
		claim, imp := c.claimNamed(name), c.importNamed(name)
		all = all && claim != nil && imp != nil && claim.Spec.VolumeName != "" && holdsDisk(claim, imp)
		prime := &corev1.PersistentVolumeClaim{}
		if claim != nil && c.find(prime, systemNamespace, primeName(claim.UID)) && prime.Spec.DataSource != nil {
			c.restored[name] = prime.Spec.DataSource.Name
		}
	}
	return all
}

func (c *crowd) strategies() []v1alpha1.Strategy {
	var all []v1alpha1.Strategy
	for _, name := range c.names {
		all = append(all, c.importNamed(name).Status.Strategy)
	}
	return all
}

// requireShared checks that one has downloaded and the others were restored from what it has, and that nothing is left.
func (c *crowd) requireShared(leader string) {
	c.t.Helper()
	require.Len(c.t, c.read, 1)
	require.Contains(c.t, c.read, leader)
	require.Len(c.t, c.restored, len(c.names)-1)
	for name, from := range c.restored {
		require.NotEqual(c.t, leader, name)
		require.Equal(c.t, reuseSnapshotName(c.importNamed(leader).UID), from)
	}
	c.requireCleared()
}

func (c *crowd) requireCleared() {
	c.t.Helper()
	c.ticks(4)
	require.LessOrEqual(c.t, c.running, 1, "two writers at once")
	c.requireNothingLeft()
	require.Empty(c.t, c.snapshotNames())
}
