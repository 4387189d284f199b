//go:build e2e

package smoke

import (
	"context"
	"strconv"
	"strings"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	diskSize = 40 * mebibyte // the bytes that the probe writes to a volume
	cut      = "cut"         // the name of every snapshot
)

func ofClaim(name string) *corev1.TypedLocalObjectReference {
	return &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: name}
}

// ofCut is the snapshot that the tests take.
func ofCut() *corev1.TypedLocalObjectReference {
	return &corev1.TypedLocalObjectReference{APIGroup: ptr.To(snapshotv1.GroupName), Kind: "VolumeSnapshot", Name: cut}
}

// snapshot takes a snapshot of a claim with the default class of the driver, or shows a content that was handed over.
func (c *cluster) snapshot(source snapshotv1.VolumeSnapshotSource) {
	c.Helper()
	wanted := &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Name: cut}, Spec: snapshotv1.VolumeSnapshotSpec{Source: source}}
	_, err := c.snapshots.SnapshotV1().VolumeSnapshots(c.namespace).Create(c.Context(), wanted, metav1.CreateOptions{})
	require.NoError(c, err)
}

// state returns the status of a snapshot.
func (c *cluster) state() snapshotv1.VolumeSnapshotStatus {
	c.Helper()
	found, err := c.snapshots.SnapshotV1().VolumeSnapshots(c.namespace).Get(c.Context(), cut, metav1.GetOptions{})
	require.NoError(c, err)
	if found.Status == nil {
		return snapshotv1.VolumeSnapshotStatus{}
	}
	return *found.Status
}

func (c *cluster) snapshotReady() {
	c.Helper()
	c.eventually("the snapshot is ready", func() bool { return ptr.Deref(c.state().ReadyToUse, false) })
}

// at is where a pod finds a claim.
func at(claim string) string { return "/volumes/" + claim }

// withAll gives a pod claims of one mode.
func withAll(mode corev1.PersistentVolumeMode, claims ...string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		for _, claim := range claims {
			with(pod, claim, mode, at(claim))
		}
	}
}

// sums returns, for each claim, what its volume holds.
func (c *cluster) sums(pod string, mode corev1.PersistentVolumeMode, claims ...string) map[string]string {
	c.Helper()
	args := []string{"sum", strconv.Itoa(diskSize)}
	for _, claim := range claims {
		args = append(args, at(claim))
	}
	found := map[string]string{}
	for _, line := range c.run(pod, withAll(mode, claims...), args...) {
		path, finding, _ := strings.Cut(line, " ")
		found[strings.TrimPrefix(path, at(""))] = finding
	}
	return found
}

// refused waits until a claim's events say why it is not bound.
func (c *cluster) refused(claim, why string) {
	c.Helper()
	c.eventually("the events of claim "+claim+" say: "+why, func() bool {
		events, err := c.CoreV1().Events(c.namespace).List(c.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + claim})
		require.NoError(c, err)
		for _, event := range events.Items {
			if strings.Contains(event.Message, why) {
				return true
			}
		}
		return false
	})
	require.Equal(c, corev1.ClaimPending, c.phase(claim))
}

func TestClonesAndSnapshots(t *testing.T) {
	for _, mode := range []corev1.PersistentVolumeMode{corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeBlock} {
		t.Run(string(mode), func(t *testing.T) {
			c := newCluster(t)
			c.claim("source", "loop", mode)
			put := func(pod, seed string) string {
				_, finding, _ := strings.Cut(c.run(pod, withAll(mode, "source"), "put", seed, at("source"))[0], " ")
				sum, _, _ := strings.Cut(finding, " ")
				require.Len(t, sum, 64, finding)
				return sum
			}
			first := put("writer", "first")
			c.start("holder", withAll(mode, "source"), "serve", ":8080") // a volume that is mounted is cut as it is
			c.eventually("the holder runs", func() bool {
				pod, err := c.CoreV1().Pods(c.namespace).Get(t.Context(), "holder", metav1.GetOptions{})
				require.NoError(t, err)
				return pod.Status.Phase == corev1.PodRunning
			})
			c.claimFrom("clone", "loop", mode, "64Mi", ofClaim("source"))
			c.claimFrom("clone-larger", "loop", mode, "96Mi", ofClaim("source"))
			c.snapshot(snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: ptr.To("source")})
			c.snapshotReady()
			for _, claim := range []string{"clone", "clone-larger"} {
				c.eventually(claim+" binds", func() bool { return c.phase(claim) == corev1.ClaimBound })
			}
			second := put("rewriter", "second")
			require.NotEqual(t, first, second)
			c.claimFrom("restored", "loop", mode, "64Mi", ofCut())
			c.claimFrom("restored-larger", "loop-wait", mode, "96Mi", ofCut())
			c.claimFrom("restored-smaller", "loop", mode, "32Mi", ofCut())

			other := c.another()
			other.handOver(c)
			other.claimFrom("restored", "loop", mode, "64Mi", ofCut())

			c.same(mode, first, c.sums("reader", mode, "clone", "clone-larger", "restored", "restored-larger"))
			c.same(mode, second, c.sums("source-reader", mode, "source"))
			c.same(mode, first, other.sums("reader", mode, "restored"))
			c.refused("restored-smaller", "is less than the size")

			other.remove()
			c.claimFrom("restored-later", "loop", mode, "64Mi", ofCut())
			c.same(mode, first, c.sums("later-reader", mode, "restored-later"))
		})
	}
}

// same checks that each volume holds the disk with the checksum and has the size that was asked for.
func (c *cluster) same(mode corev1.PersistentVolumeMode, sum string, found map[string]string) {
	c.Helper()
	require.NotEmpty(c, found)
	for claim, finding := range found {
		size := 64
		if strings.HasSuffix(claim, "-larger") {
			size = 96
		}
		if mode == corev1.PersistentVolumeBlock {
			require.Equal(c, sum+" rest-is-zero=true size="+strconv.Itoa(size)+" room="+strconv.Itoa(size), finding, claim)
			continue
		}
		before, room, _ := strings.Cut(finding, " room=")
		require.Equal(c, sum+" rest-is-zero=true size=40", before, claim)
		mib, err := strconv.Atoi(room)
		require.NoError(c, err)
		require.InDelta(c, size, mib, 12, "%s: the file system fills its volume, but for its own tables", claim)
	}
}

// handOver shows the namespace a snapshot of another one: a content with the storage's own name of it.
func (c *cluster) handOver(from *cluster) {
	c.Helper()
	client := c.snapshots.SnapshotV1()
	content, err := client.VolumeSnapshotContents().Get(c.Context(), *from.state().BoundVolumeSnapshotContentName, metav1.GetOptions{})
	require.NoError(c, err)
	handed := &snapshotv1.VolumeSnapshotContent{
		ObjectMeta: metav1.ObjectMeta{Name: c.namespace},
		Spec: snapshotv1.VolumeSnapshotContentSpec{
			Driver: content.Spec.Driver, DeletionPolicy: snapshotv1.VolumeSnapshotContentRetain, SourceVolumeMode: content.Spec.SourceVolumeMode,
			Source:            snapshotv1.VolumeSnapshotContentSource{SnapshotHandle: content.Status.SnapshotHandle},
			VolumeSnapshotRef: corev1.ObjectReference{Namespace: c.namespace, Name: cut},
		},
	}
	_, err = client.VolumeSnapshotContents().Create(c.Context(), handed, metav1.CreateOptions{})
	require.NoError(c, err)
	c.Cleanup(func() {
		ctx := context.WithoutCancel(c.Context())
		require.NoError(c, client.VolumeSnapshotContents().DeleteCollection(ctx, metav1.DeleteOptions{},
			metav1.ListOptions{FieldSelector: "metadata.name=" + handed.Name}))
	})
	c.snapshot(snapshotv1.VolumeSnapshotSource{VolumeSnapshotContentName: &handed.Name})
	c.snapshotReady()
}

// remove deletes a snapshot that was handed over. What the storage has stays.
func (c *cluster) remove() {
	c.Helper()
	client := c.snapshots.SnapshotV1()
	require.NoError(c, client.VolumeSnapshots(c.namespace).Delete(c.Context(), cut, metav1.DeleteOptions{}))
	require.NoError(c, client.VolumeSnapshotContents().Delete(c.Context(), c.namespace, metav1.DeleteOptions{}))
	c.eventually("the content is gone", func() bool {
		left, err := client.VolumeSnapshotContents().List(c.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + c.namespace})
		require.NoError(c, err)
		return len(left.Items) == 0
	})
}

func TestSnapshotThatIsNotReady(t *testing.T) {
	c := newCluster(t)
	class := c.class(nil)
	c.pool(`{"snapshotsUnready": true}`)
	t.Cleanup(func() { c.pool("off") })
	c.claim("source", class, corev1.PersistentVolumeBlock)
	c.eventually("the claim binds", func() bool { return c.phase("source") == corev1.ClaimBound })
	c.snapshot(snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: ptr.To("source")})
	c.eventually("the snapshot is cut", func() bool { return c.state().CreationTime != nil })
	require.False(t, ptr.Deref(c.state().ReadyToUse, true))
	c.pool("off")
	c.snapshotReady()
}

func TestPlainDriverCopiesNothing(t *testing.T) {
	c := newCluster(t)
	c.claim("source", "plain", corev1.PersistentVolumeBlock)
	c.run("writer", withAll(corev1.PersistentVolumeBlock, "source"), "put", "seed", at("source"))
	c.claimFrom("clone", "plain", corev1.PersistentVolumeBlock, "64Mi", ofClaim("source"))
	c.refused("clone", "does not support clone")
	c.claim("theirs", "loop", corev1.PersistentVolumeBlock)
	c.eventually("the claim binds", func() bool { return c.phase("theirs") == corev1.ClaimBound })
	c.claimFrom("foreign", "plain", corev1.PersistentVolumeBlock, "64Mi", ofClaim("theirs"))
	c.refused("foreign", "does not support clone")
}
