package datavolume

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

const (
	// kind is that of DataVolumes.
	kind = "DataVolume"

	// labelCDI marks what CDI has made, and KubeVirt's tools look for it.
	labelCDI, labelCDIValue = "app", "containerized-data-importer"
	// labelFillingUp keeps the monitoring of OpenShift from warning of a volume that a disk fills.
	labelFillingUp = "alerts.k8s.io/KubePersistentVolumeFillingUp"

	// annotationCreatedFor is the UID of the DataVolume that a claim was made for.
	annotationCreatedFor = golden.Group + "/createdForDataVolume"
	// annotationContentType tells KubeVirt that there is a disk on the volume.
	annotationContentType = golden.Group + "/storage.contentType"
	// annotationPopulatedFor on a claim names the DataVolume that it is filled for already, by KubeVirt's
	// restore; it is passed on only once the claim is filled.
	annotationPopulatedFor = golden.Group + "/storage.populatedFor"
	// annotationPrePopulated on a DataVolume says that somebody else makes its claim.
	annotationPrePopulated = golden.Group + "/storage.prePopulated"
	// annotationAdoption on a DataVolume lets it have a claim that was there before. KubeVirt asks for
	// it in the templates of each machine.
	annotationAdoption = golden.Group + "/allowClaimAdoption"
	// annotationSelectedNode is where the scheduler writes the node of a claim's first consumer.
	annotationSelectedNode = "volume.kubernetes.io/selected-node"

	labelName      = "app.kubernetes.io/name"
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "gild-datavolume"
)

// ownLabels are on what is made for a DataVolume besides its claim.
func ownLabels() map[string]string {
	return map[string]string{labelName: "gild", labelManagedBy: managedBy}
}

// ownedBy has an object go with its DataVolume. It keeps nobody from deleting that: to do so, one would have to
// be allowed to change the finalizers of DataVolumes.
func ownedBy(volume *cdiv1.DataVolume) []metav1.OwnerReference {
	owner := metav1.NewControllerRef(volume, cdiv1.SchemeGroupVersion.WithKind(kind))
	owner.BlockOwnerDeletion = ptr.To(false)
	return []metav1.OwnerReference{*owner}
}

// claimLabels are those of the claim of a DataVolume: those of what is copied that KubeVirt reads, CDI's,
// and all of the DataVolume that are nobody's own.
func claimLabels(volume *cdiv1.DataVolume, copied map[string]string, isFile bool) map[string]string {
	labels := map[string]string{labelCDI: labelCDIValue}
	if isFile {
		labels[labelFillingUp] = "disabled"
	}
	for key, value := range copied {
		if golden.PassesLabel(key) {
			labels[key] = value
		}
	}
	for key, value := range volume.Labels {
		if !isReserved(key) && key != golden.LabelCron && key != golden.LabelCleanup {
			labels[key] = value
		}
	}
	return labels
}

// claimAnnotations are those of the claim of a DataVolume.
func claimAnnotations(volume *cdiv1.DataVolume) map[string]string {
	annotations := map[string]string{}
	for key, value := range volume.Annotations {
		if !isReserved(key) && key != annotationPopulatedFor {
			annotations[key] = value
		}
	}
	annotations[annotationContentType] = string(cdiv1.DataVolumeKubeVirt)
	annotations[annotationCreatedFor] = string(volume.UID)
	return annotations
}

// isReserved reports whether a label or annotation means something to Kubernetes or to us: a claim that is
// made with it would be taken for one that is bound, placed or verified already.
func isReserved(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	return slices.Contains([]string{
		"gild.dev", "virtualization.k8s.io",
		"pv.kubernetes.io", "volume.kubernetes.io", "volume.beta.kubernetes.io", "kubectl.kubernetes.io",
	}, domain)
}
