package datavolume

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/snapshot"
)

// grants tell whether a namespace may copy what another one has.
type grants interface {
	Check(ctx context.Context, by grant.Subject, kind, namespace, name string) (grant.Answer, error)
}

// snapshots look at VolumeSnapshots.
type snapshots interface {
	Look(ctx context.Context, key types.NamespacedName) (*snapshot.State, error)
}

// observer sees what a decision about a DataVolume needs. The cache may be behind; live is not.
type observer struct {
	cache, live client.Reader
	grants      grants
	snapshots   snapshots
	clock       clock.PassiveClock
}

// observe reads all that a decision about a DataVolume needs.
func (o *observer) observe(ctx context.Context, volume *cdiv1.DataVolume) (*view, error) {
	v := &view{volume: volume, now: o.clock.Now()}
	for _, look := range []func(context.Context, *view) error{o.seeClaim, o.seeImport, o.seeReferred, o.seeClass, o.seeShape, o.seeOrigin} {
		if err := look(ctx, v); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// see reads an object by name; nil when there is none, or not even its kind.
func see[T any, O interface {
	*T
	client.Object
}](ctx context.Context, reader client.Reader, namespace, name string) (O, error) {
	var object O = new(T)
	err := reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, object)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading %T %s: %w", object, name, err)
	}
	return object, nil
}

func (o *observer) seeClaim(ctx context.Context, v *view) (err error) {
	v.claim, err = see[corev1.PersistentVolumeClaim](ctx, o.cache, v.volume.Namespace, v.volume.Name)
	return err
}

// seeImport reads the import of the claim. Where there is none, the volume of a bound claim tells whether it was
// filled.
func (o *observer) seeImport(ctx context.Context, v *view) error {
	if !v.hasClaim() || !golden.IsFilledByUs(v.claim) {
		return nil
	}
	imp, err := see[v1alpha1.VMDiskImport](ctx, o.cache, v.claim.Namespace, v.claim.Name)
	if err != nil {
		return err
	}
	if imp != nil && imp.Spec.ClaimRef.UID == v.claim.UID && metav1.IsControlledBy(imp, v.claim) {
		v.imp = imp
	}
	if v.imp != nil || v.claim.Status.Phase != corev1.ClaimBound {
		return nil
	}
	pv, err := see[corev1.PersistentVolume](ctx, o.live, "", v.claim.Spec.VolumeName)
	if err != nil {
		return err
	}
	v.handedOver = pv != nil && golden.IsHandedOver(pv, v.claim)
	return nil
}

// seeReferred reads what the claim refers to, or will.
func (o *observer) seeReferred(ctx context.Context, v *view) (err error) {
	switch {
	case fetches(v.volume):
		v.image, err = see[v1alpha1.VMDiskImage](ctx, o.cache, v.volume.Namespace, v.volume.Name)
	case needsSource(v.volume):
		v.source, err = see[cdiv1.DataSource](ctx, o.cache, v.volume.Namespace, v.volume.Name)
	}
	return err
}

func (o *observer) seeClass(ctx context.Context, v *view) (err error) {
	name, named := claimshape.NamedClass(&v.volume.Spec)
	switch {
	case v.hasClaim() && v.claim.Spec.StorageClassName != nil:
		name = *v.claim.Spec.StorageClassName
	case !named:
		var classes storagev1.StorageClassList
		if err := o.cache.List(ctx, &classes); err != nil {
			return fmt.Errorf("listing StorageClasses: %w", err)
		}
		name = claimshape.DefaultClass(classes.Items)
	}
	if v.className = name; name == "" {
		return nil
	}
	v.class, err = see[storagev1.StorageClass](ctx, o.cache, "", name)
	return err
}

// seeShape reads what the shape of a claim depends on.
func (o *observer) seeShape(ctx context.Context, v *view) (err error) {
	if v.profile, err = see[cdiv1.StorageProfile](ctx, o.cache, "", v.className); err != nil {
		return err
	}
	v.config, err = see[cdiv1.CDIConfig](ctx, o.cache, "", claimshape.ConfigName)
	return err
}

// seeOrigin reads what is copied, as long as that matters.
func (o *observer) seeOrigin(ctx context.Context, v *view) (err error) {
	source, ref := v.volume.Spec.Source, v.volume.Spec.SourceRef
	switch {
	case v.settled() && (v.source != nil || !needsSource(v.volume) || outcomeOf(v).phase == cdiv1.Succeeded):
		return nil
	case source != nil && source.PVC != nil:
		v.origin, err = o.originOf(ctx, v.volume.Namespace, &cdiv1.DataSourceSource{PVC: source.PVC})
	case source != nil && source.Snapshot != nil:
		v.origin, err = o.originOf(ctx, v.volume.Namespace, &cdiv1.DataSourceSource{Snapshot: source.Snapshot})
	case ref != nil:
		v.origin, err = o.follow(ctx, v.volume, ref)
	}
	return err
}
