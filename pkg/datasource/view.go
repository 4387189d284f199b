package datasource

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// view is what is known of a DataSource at one moment.
type view struct {
	dataSource *cdiv1.DataSource
	// pointed is the DataSource that it refers to; nil when it refers to none, or to none there is.
	pointed *cdiv1.DataSource
	// claim is what is named in the end, nil when there is none; the same holds for snapshot.
	claim    *corev1.PersistentVolumeClaim
	snapshot *unstructured.Unstructured
	// imp is the import of the claim; nil when there is none of its own.
	imp *v1alpha1.VMDiskImport
	// volume is that of a claim of which nothing else tells whether it was filled.
	volume *corev1.PersistentVolume
}

// resolved is the source in the end: its own, or that of the DataSource it refers to.
func (v *view) resolved() *cdiv1.DataSourceSource {
	if v.dataSource.Spec.Source.DataSource == nil {
		return &v.dataSource.Spec.Source
	}
	if v.pointed != nil {
		return &v.pointed.Spec.Source
	}
	return &cdiv1.DataSourceSource{}
}

// isForeign reports whether what is named in the end is in another namespace.
func (v *view) isForeign() bool {
	own, namespace := v.dataSource.Namespace, ""
	switch source := v.resolved(); {
	case source.PVC != nil:
		namespace = source.PVC.Namespace
	case source.Snapshot != nil:
		namespace = source.Snapshot.Namespace
	}
	return orElse(namespace, own) != own
}

// readers are the cache, and the API server for what is not watched.
type readers struct{ client, live client.Reader }

// observe reads all that a judgement needs.
func (c readers) observe(ctx context.Context, dataSource *cdiv1.DataSource) (*view, error) {
	v := &view{dataSource: dataSource}
	if ref := dataSource.Spec.Source.DataSource; ref != nil && refusal(dataSource, ref) == nil {
		pointed := &cdiv1.DataSource{}
		found, err := find(c.client.Get(ctx, types.NamespacedName{Namespace: dataSource.Namespace, Name: ref.Name}, pointed))
		if err != nil {
			return nil, fmt.Errorf("reading DataSource %s: %w", ref.Name, err)
		}
		if found {
			v.pointed = pointed
		}
	}
	source := v.resolved()
	switch {
	case source.PVC != nil:
		return v, c.seeClaim(ctx, v, types.NamespacedName{Namespace: orElse(source.PVC.Namespace, dataSource.Namespace), Name: source.PVC.Name})
	case source.Snapshot != nil:
		return v, c.seeSnapshot(ctx, v, types.NamespacedName{Namespace: orElse(source.Snapshot.Namespace, dataSource.Namespace), Name: source.Snapshot.Name})
	}
	return v, nil
}

func (c readers) seeClaim(ctx context.Context, v *view, key types.NamespacedName) error {
	claim := &corev1.PersistentVolumeClaim{}
	found, err := find(c.client.Get(ctx, key, claim))
	if err != nil {
		return fmt.Errorf("reading claim %s: %w", key, err)
	}
	if !found {
		return nil
	}
	v.claim = claim
	if !golden.IsFilledByUs(claim) || isVerified(claim) {
		return nil
	}
	imp := &v1alpha1.VMDiskImport{}
	if found, err = find(c.client.Get(ctx, key, imp)); err != nil {
		return fmt.Errorf("reading the import of %s: %w", key, err)
	}
	if found && imp.Spec.ClaimRef.UID == claim.UID && metav1.IsControlledBy(imp, claim) {
		v.imp = imp
	}
	if claim.Status.Phase != corev1.ClaimBound || v.imp != nil {
		return nil
	}
	volume := &corev1.PersistentVolume{}
	if found, err = find(c.live.Get(ctx, types.NamespacedName{Name: claim.Spec.VolumeName}, volume)); err != nil {
		return fmt.Errorf("reading the volume of %s: %w", key, err)
	}
	if found {
		v.volume = volume
	}
	return nil
}

// seeSnapshot reads a VolumeSnapshot. Clusters without the kind have none.
func (c readers) seeSnapshot(ctx context.Context, v *view, key types.NamespacedName) error {
	snapshot := &unstructured.Unstructured{}
	snapshot.SetGroupVersionKind(snapshotKind())
	found, err := find(c.live.Get(ctx, key, snapshot))
	if err != nil {
		return fmt.Errorf("reading VolumeSnapshot %s: %w", key, err)
	}
	if found {
		v.snapshot = snapshot
	}
	return nil
}

func snapshotKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshot"}
}

// find tells an object that does not exist, or whose kind does not, from a failure to read it.
func find(err error) (found bool, failure error) {
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return false, nil
	}
	return err == nil, err
}

func orElse(namespace, own string) string {
	if namespace == "" {
		return own
	}
	return namespace
}
