package populator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// temporaryName is the name of the snapshots that are made for one import: the one that is handed over to the
// system namespace and, beside a claim that has no snapshot, the one that is taken of it.
func temporaryName(imp *v1alpha1.VMDiskImport) string { return "copy-" + string(imp.UID) }

// snapshotOf names the snapshot in the system namespace that an import restores from; empty while there is none.
func snapshotOf(ctx context.Context, all snapshots, system string, imp *v1alpha1.VMDiskImport) (string, error) {
	if follows(imp) {
		left, err := reusedSnapshot(ctx, all, system, imp)
		if err != nil || left == nil {
			return "", err
		}
		return reuseSnapshotName(imp.Status.Reuses.UID), nil
	}
	kept, err := goldenSnapshot(ctx, all, system, imp.Spec.CopyOf.UID)
	if err != nil {
		return "", err
	}
	if kept != nil {
		return goldenSnapshotName(imp.Spec.CopyOf.UID), nil
	}
	state, err := all.Look(ctx, types.NamespacedName{Namespace: system, Name: temporaryName(imp)})
	if err != nil || state == nil {
		return "", err
	}
	return temporaryName(imp), nil
}

// prepareSnapshot brings a snapshot of the source into the system namespace. It says what it waits for, or why
// there will be none.
func (c *importController) prepareSnapshot(ctx context.Context, imp *v1alpha1.VMDiskImport) (waiting *state, why string, err error) {
	name, err := snapshotOf(ctx, c.snapshots, c.namespace, imp)
	if err != nil || name != "" {
		return nil, "", err
	}
	if follows(imp) {
		return nil, "the snapshot of " + describeOrigin(imp) + " is gone", nil
	}
	of := imp.Spec.CopyOf
	from := types.NamespacedName{Namespace: of.Namespace, Name: of.Name}
	if of.Kind == v1alpha1.CopyOfClaim {
		from.Name = temporaryName(imp)
	}
	state, err := c.snapshots.Look(ctx, from)
	if err != nil {
		return nil, "", err
	}
	taking := pending(reasonTakingSnapshot, "a snapshot of %s is being taken", describeCopied(of))
	switch {
	case of.Kind == v1alpha1.CopyOfSnapshot && (state == nil || state.UID != of.UID):
		return nil, describeCopied(of) + " was deleted", nil
	case state == nil:
		why, err := c.takeTemporary(ctx, imp, from)
		return &taking, why, err
	case !state.Taken && of.Kind == v1alpha1.CopyOfClaim && overdue(state, c.clock.Now()):
		return nil, fmt.Sprintf("the storage has not taken a snapshot of %s within %s%s", describeCopied(of), snapshotPatience, saying(state.Failure)), nil
	case !state.Taken:
		return &taking, "", nil
	}
	if of.Kind == v1alpha1.CopyOfClaim {
		// The storage was given a name: another claim may have it by now.
		if _, lost, err := c.copiedClaim(ctx, of); lost != "" || err != nil {
			return &taking, lost, err
		}
	}
	to := types.NamespacedName{Namespace: c.namespace, Name: temporaryName(imp)}
	labels, annotations := c.marksOf(imp)
	if size, ok := state.Annotations[annotationSize]; ok && of.Kind == v1alpha1.CopyOfClaim {
		annotations[annotationSize] = size
	}
	return &taking, "", c.snapshots.HandOver(ctx, from, to, labels, annotations)
}

// takeTemporary asks for a snapshot of a claim that was made by hand.
func (c *importController) takeTemporary(ctx context.Context, imp *v1alpha1.VMDiskImport, key types.NamespacedName) (why string, err error) {
	source, err := c.copied(ctx, imp.Spec.CopyOf)
	switch {
	case err != nil:
		return "", err
	case source.Lost != "":
		return source.Lost, nil
	case source.Class == "":
		return fmt.Sprintf("there is no VolumeSnapshotClass with deletionPolicy Delete for %s any more", source.Driver), nil
	}
	labels, annotations := c.marksOf(imp)
	annotations[annotationSize] = strconv.FormatInt(source.Capacity, 10)
	return "", c.snapshots.Take(ctx, key, imp.Spec.CopyOf.Name, source.Class, labels, annotations)
}

// marksOf are the labels and annotations of what is made for one import.
func (c *importController) marksOf(imp *v1alpha1.VMDiskImport) (labels, annotations map[string]string) {
	labels = importLabels(imp.Spec.ClaimRef.UID)
	labels[labelImportUID] = string(imp.UID)
	return labels, map[string]string{
		annotationClaim: imp.Namespace + "/" + imp.Spec.ClaimRef.Name,
		annotationFrom:  imp.Spec.CopyOf.Namespace,
		annotationSince: c.clock.Now().UTC().Format(time.RFC3339),
	}
}

// clearPatience is how long the end of an import waits for what its copy left. A driver that never answers can hold a
// snapshot for ever: it has been deleted then, and goes when the driver lets it.
const clearPatience = time.Minute

// clearedSince is clearCopied for an import that ended at a time: after clearPatience nothing waits for it any more.
func (c *importController) clearedSince(ctx context.Context, imp *v1alpha1.VMDiskImport, end time.Time) (gone bool, err error) {
	gone, err = c.clearCopied(ctx, imp)
	return gone || c.clock.Since(end) > clearPatience, err
}

// clearTry removes all that an earlier try at a copy left: it may have used another strategy. It does not wait for
// snapshots and exporters, which keep nobody from anything and are cleared again at the end.
func (c *importController) clearTry(ctx context.Context, imp *v1alpha1.VMDiskImport) (gone bool, err error) {
	if gone, err := c.clearAttempts(ctx, ofClaim(imp.Spec.ClaimRef.UID)); err != nil || !gone {
		return false, err
	}
	if gone, err := c.clearVolume(ctx, imp.Spec.ClaimRef.UID); err != nil || !gone {
		return false, err
	}
	_, err = c.clearCopied(ctx, imp)
	return err == nil, err
}

// clearCopied removes what was made to read the source of a copy. What was never begun is not asked for. A snapshot
// that does not go keeps no exporter.
func (c *importController) clearCopied(ctx context.Context, imp *v1alpha1.VMDiskImport) (gone bool, err error) {
	if imp.Spec.CopyOf == nil {
		return true, nil
	}
	exported, failed := c.clearExport(ctx, imp)
	taken, err := c.clearTemporary(ctx, imp)
	return exported && taken, errors.Join(failed, err)
}

// clearTemporary removes the snapshots that were made for one import.
func (c *importController) clearTemporary(ctx context.Context, imp *v1alpha1.VMDiskImport) (gone bool, err error) {
	if !tried(imp, v1alpha1.StrategySnapshot) {
		return true, nil
	}
	// First the second name, then the storage's snapshot behind it.
	keys := []types.NamespacedName{{Namespace: c.namespace, Name: temporaryName(imp)}}
	if imp.Spec.CopyOf.Kind == v1alpha1.CopyOfClaim {
		keys = append(keys, types.NamespacedName{Namespace: imp.Spec.CopyOf.Namespace, Name: temporaryName(imp)})
	}
	for _, key := range keys {
		if removed, err := c.snapshots.Remove(ctx, key); err != nil || !removed {
			return false, err
		}
	}
	return true, nil
}

// tried reports whether a strategy was begun.
func tried(imp *v1alpha1.VMDiskImport, strategy v1alpha1.Strategy) bool {
	return imp.Status.Strategy == strategy || hasPassedOver(imp, strategy)
}

// hasPassedOver reports whether a strategy was given up, or is not possible.
func hasPassedOver(imp *v1alpha1.VMDiskImport, strategy v1alpha1.Strategy) bool {
	return slices.ContainsFunc(imp.Status.PassedOver, func(p v1alpha1.PassedOver) bool { return p.Strategy == strategy })
}
