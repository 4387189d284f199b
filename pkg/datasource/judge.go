package datasource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// Reasons of the condition Ready. A claim that is being filled has the phase of its import.
const (
	reasonReady            = "Ready"
	reasonNoSource         = "NoSource"
	reasonNotFound         = "NotFound"
	reasonSnapshotNotReady = "SnapshotNotReady"
	reasonTooDeep          = "MaxReferenceDepthReached"
	reasonSelf             = "SelfReference"
	reasonCrossNamespace   = "CrossNamespaceReference"
	// reasonNotBound and reasonNotFilled are ours.
	reasonNotBound  = "NotBound"
	reasonNotFilled = "NotFilled"
)

// verdict is what there is to say of a DataSource.
type verdict struct {
	ready           bool
	reason, message string
	// labels are those of what it names.
	labels map[string]string
}

func not(reason, format string, args ...any) *verdict {
	return &verdict{reason: reason, message: fmt.Sprintf(format, args...)}
}

func ready(labels map[string]string) *verdict {
	return &verdict{ready: true, reason: reasonReady, message: "DataSource is ready to be consumed", labels: labels}
}

// judge says whether what a DataSource names can be used. Whoever may read the DataSource need not
// be allowed to read what it names in another namespace: of that it tells the state alone.
func judge(v *view) *verdict {
	found := judgeSource(v)
	if v.isForeign() {
		found.labels = nil
	}
	return found
}

func judgeSource(v *view) *verdict {
	if ref := v.dataSource.Spec.Source.DataSource; ref != nil {
		switch refused := refusal(v.dataSource, ref); {
		case refused != nil:
			return refused
		case v.pointed == nil:
			return not(reasonNotFound, "DataSource not found")
		case v.pointed.Spec.Source.DataSource != nil:
			return not(reasonTooDeep, "DataSource %s refers to another DataSource itself: refer to that one", v.pointed.Name)
		}
	}
	switch source := v.resolved(); {
	case source.PVC != nil:
		return judgeClaim(v)
	case source.Snapshot != nil:
		return judgeSnapshot(v.snapshot)
	}
	return not(reasonNoSource, "No source PVC set")
}

// refusal is what is wrong with a reference to another DataSource; nil when nothing is.
func refusal(dataSource *cdiv1.DataSource, ref *cdiv1.DataSourceRefSourceDataSource) *verdict {
	switch {
	case orElse(ref.Namespace, dataSource.Namespace) != dataSource.Namespace:
		return not(reasonCrossNamespace, "DataSource cannot refer to DataSource %s of namespace %s", ref.Name, ref.Namespace)
	case ref.Name == dataSource.Name:
		return not(reasonSelf, "DataSource cannot refer to itself")
	}
	return nil
}

func judgeClaim(v *view) *verdict {
	claim := v.claim
	switch {
	case claim == nil:
		return not(reasonNotFound, "PVC not found")
	case golden.IsInterrupted(claim):
		return not(reasonNotFilled, "CDI was removed before it had filled the PVC: delete the PVC")
	case !golden.IsFilledByUs(claim) && claim.Status.Phase == corev1.ClaimBound:
		return ready(claim.Labels)
	case claim.Status.Phase == corev1.ClaimBound && isFilled(v):
		return ready(claim.Labels)
	case v.imp != nil && v.imp.Status.Phase == v1alpha1.PhaseFailed && !v.isForeign():
		return not(string(v.imp.Status.Phase), "Import phase %s: %s", v.imp.Status.Phase, readyMessage(v.imp))
	case v.imp != nil && v.imp.Status.Phase != "" && v.imp.Status.Phase != v1alpha1.PhaseSucceeded:
		return not(string(v.imp.Status.Phase), "Import phase %s", v.imp.Status.Phase)
	case claim.Status.Phase != corev1.ClaimBound:
		return not(reasonNotBound, "PVC is not bound")
	}
	return not(reasonNotFilled, "PVC is bound to a volume that its import has not filled")
}

// isVerified reports whether a golden claim was seen to hold its revision.
func isVerified(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[golden.AnnotationVerified] != ""
}

// isFilled reports whether a bound claim that asks for a disk has got it.
func isFilled(v *view) bool {
	switch {
	case isVerified(v.claim):
		return true
	case v.imp != nil:
		return v.imp.Status.Phase == v1alpha1.PhaseSucceeded && v.imp.Status.VolumeName == v.claim.Spec.VolumeName
	}
	return v.volume != nil && golden.IsHandedOver(v.volume, v.claim)
}

func readyMessage(imp *v1alpha1.VMDiskImport) string {
	if condition := meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionReady); condition != nil {
		return condition.Reason + ": " + condition.Message
	}
	return "it does not say why"
}

func judgeSnapshot(snapshot *unstructured.Unstructured) *verdict {
	if snapshot == nil {
		return not(reasonNotFound, "Snapshot not found")
	}
	if usable, _, err := unstructured.NestedBool(snapshot.Object, "status", "readyToUse"); err != nil || !usable {
		return not(reasonSnapshotNotReady, "Snapshot phase is not ready")
	}
	return ready(snapshot.GetLabels())
}
