package populator

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/snapshot"
)

const (
	// snapshotPatience is how long a snapshot may take to be cut.
	snapshotPatience = 2 * time.Minute

	// labelGoldenUID is the UID of the golden claim that a snapshot is of.
	labelGoldenUID = Prefix + "/golden-uid"
	// annotationSince is when a snapshot was asked for.
	annotationSince = Prefix + "/since"
	// annotationSize is how large the volume is that a snapshot was taken of, in bytes. Not every driver says what a
	// volume needs that is restored from it.
	annotationSize = Prefix + "/volume-size"
	// annotationVouched is on the snapshot of a golden claim once it was seen cut while nobody but the importer
	// had the volume. One without it may hold what somebody else has written.
	annotationVouched = Prefix + "/vouched"
)

// goldenSnapshotName is the name of the snapshot of a golden claim in the system namespace.
func goldenSnapshotName(claim types.UID) string { return "golden-" + string(claim) }

// goldenSnapshot finds the snapshot that holds what a golden claim was filled with; nil when there is none.
func goldenSnapshot(ctx context.Context, all snapshots, system string, claim types.UID) (*snapshot.State, error) {
	state, err := all.Look(ctx, types.NamespacedName{Namespace: system, Name: goldenSnapshotName(claim)})
	if err != nil || state == nil || state.Annotations[annotationVouched] == "" {
		return nil, err
	}
	return state, nil
}

// keepSnapshot takes the snapshot of a golden claim: of PVC', before anybody else can write to its volume. done
// is false while it is being cut. A driver that cannot, or does not, is no reason to hold the image back.
func (c *importController) keepSnapshot(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (done bool, err error) {
	if kindOf(imp) != golden.CronKind || !isGoldenOf(claim, imp.Spec.ImageRef.Name) {
		return true, nil
	}
	key := types.NamespacedName{Namespace: c.namespace, Name: goldenSnapshotName(claim.UID)}
	state, err := c.snapshots.Look(ctx, key)
	if err != nil {
		return false, err
	}
	switch {
	case state == nil:
		return c.takeGolden(ctx, imp, claim, key)
	case state.Annotations[annotationTargetUID] != string(imp.Status.TargetUID):
		// It is of a volume that was filled before and dropped.
		_, err := c.snapshots.Remove(ctx, key)
		return false, err
	case state.Annotations[annotationVouched] != "":
		return true, nil
	case state.Taken:
		return true, c.vouch(ctx, key)
	case overdue(state, c.clock.Now()):
		c.tell(imp, corev1.EventTypeWarning, eventNoSnapshot, fmt.Sprintf(
			"the storage has not taken a snapshot within %s%s: copies of this image will be slower", snapshotPatience, saying(state.Failure)))
		// Nothing vouches for it, so nobody restores from it, however long it takes to go.
		_, err := c.snapshots.Remove(ctx, key)
		return true, err
	}
	return false, nil
}

// leastSize is the least size in bytes of a volume that is restored from a snapshot; 0 when nobody says.
func leastSize(state *snapshot.State) int64 {
	size, err := strconv.ParseInt(state.Annotations[annotationSize], 10, 64)
	if err != nil {
		return state.RestoreSize
	}
	return max(size, state.RestoreSize)
}

// overdue reports whether a snapshot should have been cut by now.
func overdue(state *snapshot.State, now time.Time) bool {
	since, err := time.Parse(time.RFC3339, state.Annotations[annotationSince])
	return err != nil || now.Sub(since) > snapshotPatience
}

// saying adds what a driver says to a message.
func saying(failure string) string {
	if failure == "" {
		return ""
	}
	return " (" + failure + ")"
}

// takeGolden asks for the snapshot of a golden claim.
func (c *importController) takeGolden(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim, key types.NamespacedName) (done bool, err error) {
	labels := map[string]string{labelName: "gild", labelManagedBy: managedByPopulator, labelGoldenUID: string(claim.UID)}
	return c.takeOfPrime(ctx, imp, key, labels, map[string]string{annotationClaim: claim.Namespace + "/" + claim.Name})
}

// vouch records that a snapshot was cut before the volume was handed over.
func (c *importController) vouch(ctx context.Context, key types.NamespacedName) error {
	object := &snapshot.VolumeSnapshot{}
	if err := c.live.Get(ctx, key, object); err != nil {
		return fmt.Errorf("reading VolumeSnapshot %s: %w", key, err)
	}
	before := object.DeepCopy()
	metav1.SetMetaDataAnnotation(&object.ObjectMeta, annotationVouched, "true")
	if err := c.client.Patch(ctx, object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("vouching for VolumeSnapshot %s: %w", key, err)
	}
	return nil
}
