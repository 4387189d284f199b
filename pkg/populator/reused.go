package populator

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/snapshot"
	"github.com/gild-project/gild/pkg/strategy"
)

const (
	// labelReuseUID is the UID of the import that a snapshot for its followers was taken of.
	labelReuseUID = Prefix + "/reuse-uid"
	// annotationReuseKey is the reuseKey of that import: nobody else's followers are restored from it. What the
	// status of an import says of its leader somebody may have written.
	annotationReuseKey = Prefix + "/reuse-key"
	// annotationResult is the result of that import as JSON. The import itself may be gone by the time.
	annotationResult = Prefix + "/result"
)

// endPatience is how long the followers of an import wait for its snapshot once it has its result.
const endPatience = snapshotPatience + clearPatience

// reuseSnapshotName is the name of the snapshot in the system namespace that the followers of an import are
// restored from.
func reuseSnapshotName(leader types.UID) string { return "reuse-" + string(leader) }

// reusedSnapshot finds the snapshot that a follower is restored from; nil while there is none, or none for it.
func reusedSnapshot(ctx context.Context, all snapshots, system string, imp *v1alpha1.VMDiskImport) (*snapshot.State, error) {
	state, err := all.Look(ctx, types.NamespacedName{Namespace: system, Name: reuseSnapshotName(imp.Status.Reuses.UID)})
	if err != nil || state == nil || state.Annotations[annotationVouched] == "" || state.Annotations[annotationReuseKey] != reuseKey(imp) {
		return nil, err
	}
	return state, nil
}

// classNow is the class of a claim that can have a volume now; nil while it cannot.
func (c *importController) classNow(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*storagev1.StorageClass, error) {
	if claim.Spec.StorageClassName == nil {
		return nil, nil
	}
	class, err := storageClass(ctx, c.client, *claim.Spec.StorageClassName)
	if err != nil || class == nil || waitsForConsumer(class) && claim.Annotations[annotationSelectedNode] == "" {
		return nil, err
	}
	return class, nil
}

// cannotFollow says why a claim cannot be restored from the volume of a leader, as far as is known before there is
// a snapshot.
func (c *importController) cannotFollow(ctx context.Context, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, leader *v1alpha1.VMDiskImport) (string, error) {
	source := &strategy.Source{Kind: v1alpha1.CopyOfClaim, Name: volumeOf(leader.Name)}
	led, err := c.claimOfLeader(ctx, leader)
	if err != nil || led == nil {
		return source.Name + " is gone", err
	}
	size := led.Spec.Resources.Requests[corev1.ResourceStorage]
	source.Mode, source.Capacity = modeOf(led.Spec.VolumeMode), size.Value()
	if source.Driver, err = c.driverFor(ctx, led, source); err != nil {
		return "", err
	}
	if source.Driver == class.Provisioner {
		if source.Class, err = c.snapshots.Class(ctx, source.Driver); err != nil {
			return "", err
		}
	}
	return strategy.CannotRestore(&strategy.Facts{Source: source, Target: targetOf(claim, class)}), nil
}

func volumeOf(leader string) string { return "the volume of VMDiskImport " + leader }

// driverFor is the driver of the volume that a leader fills, whose capacity goes into source. Until there is the volume
// its class tells.
func (c *importController) driverFor(ctx context.Context, led *corev1.PersistentVolumeClaim, source *strategy.Source) (string, error) {
	prime := &corev1.PersistentVolumeClaim{}
	err := c.client.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: primeName(led.UID)}, prime)
	if client.IgnoreNotFound(err) != nil {
		return "", fmt.Errorf("reading PVC': %w", err)
	}
	if err == nil && prime.Spec.VolumeName != "" {
		pv := &corev1.PersistentVolume{}
		err := c.client.Get(ctx, types.NamespacedName{Name: prime.Spec.VolumeName}, pv)
		if err == nil {
			source.Capacity = pv.Spec.Capacity.Storage().Value()
			return driverOf(pv), nil
		}
		if !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("reading the volume of PVC': %w", err)
		}
	}
	if led.Spec.StorageClassName == nil {
		return "", nil
	}
	class, err := storageClass(ctx, c.client, *led.Spec.StorageClassName)
	if err != nil || class == nil {
		return "", err
	}
	return class.Provisioner, nil
}

// chooseReused has a follower restored from the snapshot of its leader, if that can be.
func (c *importController) chooseReused(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim, left *snapshot.State) error {
	class, err := c.classNow(ctx, claim)
	if err != nil {
		return err
	}
	if class == nil {
		waiting, err := c.volumeWaiting(ctx, claim)
		if err != nil {
			return err
		}
		return c.record(ctx, imp, waiting, nil)
	}
	source := &strategy.Source{
		Kind: v1alpha1.CopyOfClaim, Name: volumeOf(imp.Status.Reuses.Name), Driver: left.Driver, Mode: left.SourceMode, Capacity: leastSize(left),
		Snapshot: &strategy.Snapshot{Ready: left.Ready, Failure: left.Failure, RestoreSize: left.RestoreSize},
	}
	if why := strategy.CannotRestore(&strategy.Facts{Source: source, Target: targetOf(claim, class)}); why != "" {
		_, err := c.passOver(ctx, imp, why)
		return err
	}
	chosen := pending(reasonStarting, "%s: restoring from a snapshot of %s", v1alpha1.StrategySnapshot, describeOrigin(imp))
	if err := c.record(ctx, imp, chosen, func(status *v1alpha1.VMDiskImportStatus) { status.Strategy = v1alpha1.StrategySnapshot }); err != nil {
		return err
	}
	c.tell(imp, corev1.EventTypeNormal, eventStrategy, chosen.message)
	return nil
}

// leaveSnapshot takes the snapshot of a leader that somebody waits for: of PVC', before anybody else can write to
// its volume. done is false while it is being cut. Nothing that goes wrong with it holds the leader back.
func (c *importController) leaveSnapshot(ctx context.Context, imp *v1alpha1.VMDiskImport) (done bool, err error) {
	if !mayReuse(imp) || imp.Status.Reuses != nil || !verifiable(imp) || c.clock.Since(imp.Status.Result.Time.Time) > endPatience {
		return true, nil
	}
	waited, err := c.waitedFor(ctx, imp.Namespace, imp.UID)
	if err != nil || !waited {
		return err == nil, err
	}
	result, err := json.Marshal(imp.Status.Result)
	if err != nil {
		return false, fmt.Errorf("writing the result of the import: %w", err)
	}
	return c.snapshotPrime(ctx, imp, &primeSnapshot{
		name: reuseSnapshotName(imp.UID), otherwise: "whoever waits for this image imports it again",
		labels:      map[string]string{labelReuseUID: string(imp.UID)},
		annotations: map[string]string{annotationReuseKey: reuseKey(imp), annotationResult: string(result)},
	})
}

// waitedFor reports whether an import that goes on names another one as its leader.
func (r *remains) waitedFor(ctx context.Context, namespace string, leader types.UID) (bool, error) {
	var all v1alpha1.VMDiskImportList
	if err := r.live.List(ctx, &all, client.InNamespace(namespace)); err != nil {
		return false, fmt.Errorf("listing the imports of namespace %s: %w", namespace, err)
	}
	for i := range all.Items {
		if imp := &all.Items[i]; follows(imp) && imp.Status.Reuses.UID == leader && !ended(imp) {
			return true, nil
		}
	}
	return false, nil
}

// release removes the snapshot of a leader that nobody waits for any more. It does not wait until that is gone: the
// sweeper sees to what stays.
func (c *importController) release(ctx context.Context, namespace string, leader *v1alpha1.ImportReference) error {
	if leader == nil {
		return nil
	}
	waited, err := c.waitedFor(ctx, namespace, leader.UID)
	if err != nil || waited {
		return err
	}
	key := types.NamespacedName{Namespace: c.namespace, Name: reuseSnapshotName(leader.UID)}
	state, err := c.snapshots.Look(ctx, key)
	if err != nil || state == nil || state.Labels[labelReuseUID] != string(leader.UID) || !takenFor(state, namespace) {
		return err
	}
	_, err = c.snapshots.Remove(ctx, key)
	return err
}

// takenFor reports whether a snapshot was taken for an import of a namespace: a status may name any other.
func takenFor(state *snapshot.State, namespace string) bool {
	claim, ok := claimKey(state.Annotations)
	return ok && claim.Namespace == namespace
}
