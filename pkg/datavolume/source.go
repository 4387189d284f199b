package datavolume

import (
	"cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// needsSource reports whether a DataVolume needs a DataSource of its own: to copy a claim or a snapshot, or what
// a DataSource of another namespace leads to, since a claim refers to its own namespace only.
func needsSource(volume *cdiv1.DataVolume) bool {
	if source := volume.Spec.Source; source != nil {
		return source.PVC != nil || source.Snapshot != nil
	}
	ref := volume.Spec.SourceRef
	return ref != nil && cmp.Or(ptr.Deref(ref.Namespace, ""), volume.Namespace) != volume.Namespace
}

// sourceFor is the DataSource of a DataVolume that copies, with what it leads to.
func sourceFor(volume *cdiv1.DataVolume, to *cdiv1.DataSourceSource) *cdiv1.DataSource {
	return &cdiv1.DataSource{
		TypeMeta: metav1.TypeMeta{APIVersion: cdiv1.SchemeGroupVersion.String(), Kind: golden.DataSourceKind},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: volume.Namespace, Name: volume.Name, Labels: ownLabels(), OwnerReferences: ownedBy(volume),
		},
		Spec: cdiv1.DataSourceSpec{Source: *to.DeepCopy()},
	}
}
