package populator

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/snapshot"
)

const (
	// snapshotPatience is how long a snapshot may take to be cut.
	snapshotPatience = 2 * time.Minute

	// annotationSince is when a snapshot was asked for.
	annotationSince = Prefix + "/since"
	// annotationSize is how large the volume is that a snapshot was taken of, in bytes. Not every driver says what a
	// volume needs that is restored from it.
	annotationSize = Prefix + "/volume-size"
	// annotationVouched is on a snapshot of PVC' once it was seen cut while nobody but the importer had the volume.
	// One without it may hold what somebody else has written.
	annotationVouched = Prefix + "/vouched"
)

// primeSnapshot is a snapshot of PVC' that an import takes before anybody else can write to its volume.
type primeSnapshot struct {
	name                string
	labels, annotations map[string]string
	// otherwise tells the user what it means when there is none.
	otherwise string
}

// snapshotPrime takes a snapshot of PVC' of an import that has its result, and vouches for it. done is false while it is
// being cut. A driver that cannot, or does not, holds nobody back.
func (c *importController) snapshotPrime(ctx context.Context, imp *v1alpha1.VMDiskImport, s *primeSnapshot) (done bool, err error) {
	key := types.NamespacedName{Namespace: c.namespace, Name: s.name}
	state, err := c.snapshots.Look(ctx, key)
	if err != nil {
		return false, err
	}
	switch {
	case state == nil:
		return c.takeOfPrime(ctx, imp, key, s)
	case state.Annotations[annotationTargetUID] != string(imp.Status.TargetUID):
		// It is of a volume that was filled before and dropped.
		_, err := c.snapshots.Remove(ctx, key)
		return false, err
	case state.Annotations[annotationVouched] != "":
		return true, nil
	case state.Taken:
		if kept, err := c.keepsPrime(ctx, imp); err != nil || !kept {
			return err == nil, err
		}
		return true, c.vouch(ctx, key)
	case overdue(state, c.clock.Now()):
		c.tell(imp, corev1.EventTypeWarning, eventNoSnapshot, fmt.Sprintf(
			"the storage has not taken a snapshot within %s%s: %s", snapshotPatience, saying(state.Failure), s.otherwise))
		// Nothing vouches for it, so nobody restores from it, however long it takes to go.
		_, err := c.snapshots.Remove(ctx, key)
		return true, err
	}
	return false, nil
}

// keepsPrime reports whether PVC' is the one that an import has filled: another one may have its name by now.
func (c *importController) keepsPrime(ctx context.Context, imp *v1alpha1.VMDiskImport) (bool, error) {
	prime, err := c.prime(ctx, imp.Spec.ClaimRef.UID)
	return err == nil && prime != nil && prime.UID == imp.Status.TargetUID && prime.Spec.VolumeName == imp.Status.VolumeName && prime.DeletionTimestamp.IsZero(), err
}

// takeOfPrime asks for a snapshot of PVC' of an import, if the driver of its volume has a class.
func (c *importController) takeOfPrime(ctx context.Context, imp *v1alpha1.VMDiskImport, key types.NamespacedName, s *primeSnapshot) (done bool, err error) {
	pv := &corev1.PersistentVolume{}
	if err := c.live.Get(ctx, types.NamespacedName{Name: imp.Status.VolumeName}, pv); err != nil {
		return true, client.IgnoreNotFound(err) // without its volume the import is void
	}
	if kept, err := c.keepsPrime(ctx, imp); err != nil || !kept || driverOf(pv) == "" {
		return err == nil, err
	}
	class, err := c.snapshots.Class(ctx, driverOf(pv))
	if err != nil || class == "" {
		return err == nil, err
	}
	labels := map[string]string{labelName: "gild", labelManagedBy: managedByPopulator}
	maps.Copy(labels, s.labels)
	annotations := map[string]string{
		annotationClaim:     imp.Namespace + "/" + imp.Spec.ClaimRef.Name,
		annotationTargetUID: string(imp.Status.TargetUID),
		annotationSize:      strconv.FormatInt(pv.Spec.Capacity.Storage().Value(), 10),
		annotationSince:     c.clock.Now().UTC().Format(time.RFC3339),
	}
	maps.Copy(annotations, s.annotations)
	return false, c.snapshots.Take(ctx, key, primeName(imp.Spec.ClaimRef.UID), class, labels, annotations)
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

// leastSize is the least size in bytes of a volume that is restored from a snapshot; 0 when nobody says.
func leastSize(state *snapshot.State) int64 {
	size, err := strconv.ParseInt(state.Annotations[annotationSize], 10, 64)
	if err != nil {
		return state.RestoreSize
	}
	return max(size, state.RestoreSize)
}
