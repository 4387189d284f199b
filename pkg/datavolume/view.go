package datavolume

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
)

// view is what is known of a DataVolume at one moment.
type view struct {
	volume *cdiv1.DataVolume
	// claim bears the name of the DataVolume; nil when none does. The same holds for image and source,
	// which may be somebody else's, and for imp, which is that of the claim.
	claim  *corev1.PersistentVolumeClaim
	image  *v1alpha1.VMDiskImage
	source *cdiv1.DataSource
	imp    *v1alpha1.VMDiskImport
	// handedOver: the claim is bound to a volume that the populator has filled for it. It is only looked
	// for when the import is gone.
	handedOver bool
	// class is the StorageClass that the claim has or gets; nil when there is none of the name.
	class *storagev1.StorageClass
	// className is its name; empty when none is named and there is no default.
	className string
	profile   *cdiv1.StorageProfile
	config    *cdiv1.CDIConfig
	// origin is what is copied; nil when the source is no copy.
	origin *origin
	now    time.Time
}

// origin is what a DataVolume copies, as far as it is known now.
type origin struct {
	// source names the claim or the snapshot; nil while nobody knows it.
	source *cdiv1.DataSourceSource
	// size is nil while nobody knows it.
	size *claimshape.Origin
	// labels are those of what is copied that KubeVirt reads.
	labels map[string]string
	// waiting says why it cannot be copied yet; nil when it can, or when the import tells it better.
	waiting *trouble
}

// trouble is why a DataVolume does not get on. Somebody outside must act, or it passes.
type trouble struct {
	reason, message string
	// silent: it is no fault, and needs no warning.
	silent bool
}

// owned reports whether an object was made for the DataVolume.
func (v *view) owned(o metav1.Object) bool { return metav1.IsControlledBy(o, v.volume) }

// hasClaim reports whether the DataVolume has a claim of its own.
func (v *view) hasClaim() bool { return v.claim != nil && v.owned(v.claim) }

// settled reports whether what is copied can no longer be changed: the import has begun, or is over.
func (v *view) settled() bool {
	if !v.hasClaim() {
		return false
	}
	if v.claim.Status.Phase == corev1.ClaimBound {
		return true
	}
	imp := v.imp
	return imp != nil && (imp.Status.Attempts > 0 || imp.Status.Strategy != "" || imp.Status.Phase == v1alpha1.PhaseSucceeded || imp.Status.Phase == v1alpha1.PhaseFailed)
}

// overhead is what file systems of the class need.
func (v *view) overhead() claimshape.Overhead { return claimshape.OverheadFor(v.config, v.className) }
