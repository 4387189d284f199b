package datavolume

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/datasource"
	"github.com/gild-project/gild/pkg/grant"
)

// follow finds what a DataSource leads to now. Of what its own namespace would not let copy, it tells nothing:
// whoever may make a DataVolume need not be allowed to read DataSources elsewhere.
func (o *observer) follow(ctx context.Context, volume *cdiv1.DataVolume, ref *cdiv1.DataVolumeSourceRef) (*origin, error) {
	namespace := cmp.Or(ptr.Deref(ref.Namespace, ""), volume.Namespace)
	dataSource, err := see[cdiv1.DataSource](ctx, o.cache, namespace, ref.Name)
	if err != nil {
		return nil, err
	}
	if dataSource == nil {
		return &origin{waiting: &trouble{reason: reasonSourceNotReady,
			message: fmt.Sprintf("DataSource %s/%s does not exist: the copy begins by itself once it does", namespace, ref.Name)}}, nil
	}
	found, err := datasource.Look(ctx, o.cache, o.live, dataSource)
	if err != nil {
		return nil, fmt.Errorf("following DataSource %s/%s: %w", namespace, ref.Name, err)
	}
	notReady := &trouble{reason: reasonSourceNotReady,
		message: fmt.Sprintf("DataSource %s/%s cannot be used yet: %s: the copy begins by itself once it can", namespace, ref.Name, found.Message)}
	if found.Last == nil || !found.Ready {
		return &origin{waiting: notReady}, nil
	}
	to := found.Last.Spec.Source.DeepCopy()
	switch {
	case to.PVC != nil:
		to.PVC.Namespace = cmp.Or(to.PVC.Namespace, namespace)
	case to.Snapshot != nil:
		to.Snapshot.Namespace = cmp.Or(to.Snapshot.Namespace, namespace)
	default:
		return &origin{waiting: notReady}, nil
	}
	from, err := o.originOf(ctx, volume.Namespace, to)
	if err == nil && from.waiting != nil && from.waiting.reason == reasonNotGranted {
		from.waiting.message = fmt.Sprintf("what DataSource %s/%s leads to may not be copied to namespace %s: its owner must allow that there, with a ReferenceGrant or with ClusterRole %s",
			namespace, ref.Name, volume.Namespace, grant.Role)
	}
	return from, err
}

// originOf looks at a claim or a snapshot that is copied to a namespace. Of another namespace it reads
// nothing before the owner there has allowed the copy.
func (o *observer) originOf(ctx context.Context, namespace string, source *cdiv1.DataSourceSource) (*origin, error) {
	kind, key := named(source)
	answer, err := o.grants.Check(ctx, grant.Subject{Namespace: namespace}, kind, key.Namespace, key.Name)
	switch {
	case err != nil:
		return nil, err
	case !answer.Allowed:
		return &origin{waiting: &trouble{reason: reasonNotGranted, message: answer.Message}}, nil
	case kind == grant.KindSnapshot:
		return o.originSnapshot(ctx, key, source)
	}
	claim, err := see[corev1.PersistentVolumeClaim](ctx, o.cache, key.Namespace, key.Name)
	if err != nil {
		return nil, err
	}
	from := &origin{source: source}
	switch {
	case claim == nil:
		from.waiting = absent("PersistentVolumeClaim", key, "does not exist")
	case claim.Status.Phase != corev1.ClaimBound:
		from.waiting = absent("PersistentVolumeClaim", key, "is not bound")
		from.labels = claim.Labels
	default:
		from.size, from.labels = claimshape.OriginOf(claim), claim.Labels
	}
	return from, nil
}

// named is what a source names.
func named(source *cdiv1.DataSourceSource) (kind string, key types.NamespacedName) {
	if source.PVC != nil {
		return grant.KindClaim, types.NamespacedName{Namespace: source.PVC.Namespace, Name: source.PVC.Name}
	}
	return grant.KindSnapshot, types.NamespacedName{Namespace: source.Snapshot.Namespace, Name: source.Snapshot.Name}
}

func (o *observer) originSnapshot(ctx context.Context, key types.NamespacedName, source *cdiv1.DataSourceSource) (*origin, error) {
	found, err := o.snapshots.Look(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("looking at VolumeSnapshot %s: %w", key, err)
	}
	from := &origin{source: source}
	switch {
	case found == nil:
		from.waiting = absent("VolumeSnapshot", key, "does not exist")
		return from, nil
	case !found.Ready:
		from.waiting = absent("VolumeSnapshot", key, "is not ready")
	}
	from.labels = found.Labels
	if found.RestoreSize > 0 {
		from.size = &claimshape.Origin{Size: *resource.NewQuantity(found.RestoreSize, resource.BinarySI), VolumeMode: found.SourceMode}
	}
	return from, nil
}

// absent says that what is copied is not there, or not yet.
func absent(kind string, key types.NamespacedName, how string) *trouble {
	return &trouble{reason: reasonSourceNotReady, message: fmt.Sprintf("%s %s, which is to be copied, %s: the copy begins by itself once it can", kind, key, how)}
}
