package populator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/strategy"
)

// facts finds out what the choice of a strategy hangs on.
func (c *importController) facts(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (*strategy.Facts, *state, error) {
	if claim.Spec.StorageClassName == nil {
		return nil, because(reasonStorageClassNotFound, "the claim has no StorageClass: name one, or make one the default"), nil
	}
	class, err := storageClass(ctx, c.client, *claim.Spec.StorageClassName)
	if err != nil {
		return nil, nil, err
	}
	if class == nil {
		waiting, err := c.volumeWaiting(ctx, claim)
		return nil, &waiting, err
	}
	source, err := c.copied(ctx, imp.Spec.CopyOf)
	if err != nil {
		return nil, nil, err
	}
	return &strategy.Facts{
		Source:     source,
		Target:     targetOf(claim, class),
		Copies:     c.copies,
		Import:     hasSource(&imp.Spec),
		PassedOver: imp.Status.PassedOver,
	}, nil, nil
}

// targetOf is what a claim asks for.
func targetOf(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) strategy.Target {
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	return strategy.Target{Class: class.Name, Provisioner: class.Provisioner, Mode: modeOf(claim.Spec.VolumeMode), Size: size.Value()}
}

// hasSource reports whether it is known where the disk came from.
func hasSource(spec *v1alpha1.VMDiskImportSpec) bool {
	return spec.Source.HTTP != nil || spec.Source.Blank != nil || reference(&spec.Source) != "" || imageStreamOf(&spec.Source) != ""
}

func modeOf(mode *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
	return ptr.Deref(mode, corev1.PersistentVolumeFilesystem)
}

// copied looks at what is to be copied.
func (c *importController) copied(ctx context.Context, of *v1alpha1.CopySource) (*strategy.Source, error) {
	source := &strategy.Source{Kind: of.Kind, Name: describeCopied(of)}
	if of.Kind == v1alpha1.CopyOfSnapshot {
		return source, c.copiedSnapshot(ctx, of, source)
	}
	claim, lost, err := c.copiedClaim(ctx, of)
	if err != nil || lost != "" {
		source.Lost = lost
		return source, err
	}
	pv := &corev1.PersistentVolume{}
	if err := c.live.Get(ctx, types.NamespacedName{Name: claim.Spec.VolumeName}, pv); err != nil {
		if apierrors.IsNotFound(err) {
			source.Lost = "the volume of " + source.Name + " is gone"
			return source, nil
		}
		return nil, fmt.Errorf("reading the volume of %s: %w", source.Name, err)
	}
	source.Mode, source.Driver, source.Capacity = modeOf(pv.Spec.VolumeMode), driverOf(pv), pv.Spec.Capacity.Storage().Value()
	if made, err := c.importThatFilled(ctx, claim); err != nil {
		return nil, err
	} else if made != nil && made.Status.Result != nil {
		source.DiskSize = made.Status.Result.VirtualSize
	}
	if source.Driver == "" {
		return source, nil
	}
	return source, c.snapshotFor(ctx, of, source)
}

// copiedClaim reads the claim that is to be copied; lost says why that cannot be.
func (c *importController) copiedClaim(ctx context.Context, of *v1alpha1.CopySource) (claim *corev1.PersistentVolumeClaim, lost string, err error) {
	claim = &corev1.PersistentVolumeClaim{}
	err = c.live.Get(ctx, types.NamespacedName{Namespace: of.Namespace, Name: of.Name}, claim)
	switch {
	case apierrors.IsNotFound(err), err == nil && claim.UID != of.UID:
		return nil, describeCopied(of) + " was deleted", nil
	case err != nil:
		return nil, "", fmt.Errorf("reading %s: %w", describeCopied(of), err)
	case !claim.DeletionTimestamp.IsZero():
		return nil, describeCopied(of) + " is being deleted", nil
	case claim.Status.Phase != corev1.ClaimBound:
		return nil, describeCopied(of) + " is not bound", nil
	}
	return claim, "", nil
}

func driverOf(pv *corev1.PersistentVolume) string {
	if pv.Spec.CSI == nil {
		return ""
	}
	return pv.Spec.CSI.Driver
}

// importThatFilled is the import that has filled a claim; nil when nobody knows of one.
func (c *importController) importThatFilled(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*v1alpha1.VMDiskImport, error) {
	made := &v1alpha1.VMDiskImport{}
	if err := c.client.Get(ctx, client.ObjectKeyFromObject(claim), made); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if !owns(claim, made) || made.Status.Phase != v1alpha1.PhaseSucceeded {
		return nil, nil
	}
	return made, nil
}

// snapshotFor looks for the snapshot of a claim to restore from, or for the means to take one.
func (c *importController) snapshotFor(ctx context.Context, of *v1alpha1.CopySource, source *strategy.Source) error {
	taken, err := goldenSnapshot(ctx, c.snapshots, c.namespace, of.UID)
	if err != nil {
		return err
	}
	if taken != nil {
		source.Snapshot = &strategy.Snapshot{Ready: taken.Ready, Failure: taken.Failure, RestoreSize: leastSize(taken)}
		return nil
	}
	source.Class, err = c.snapshots.Class(ctx, source.Driver)
	return err
}

func (c *importController) copiedSnapshot(ctx context.Context, of *v1alpha1.CopySource, source *strategy.Source) error {
	found, err := c.snapshots.Look(ctx, types.NamespacedName{Namespace: of.Namespace, Name: of.Name})
	if err != nil {
		return err
	}
	if found == nil || found.UID != of.UID {
		source.Lost = source.Name + " was deleted"
		return nil
	}
	source.Driver, source.Mode = found.Driver, found.SourceMode
	source.Snapshot = &strategy.Snapshot{Ready: found.Ready, Failure: found.Failure, RestoreSize: found.RestoreSize}
	return nil
}
