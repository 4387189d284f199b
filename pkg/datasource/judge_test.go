package datasource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func source(name string, from cdiv1.DataSourceSource) *cdiv1.DataSource {
	return &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: name}, Spec: cdiv1.DataSourceSpec{Source: from}}
}

func pvc(name string) cdiv1.DataSourceSource {
	return cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "vms", Name: name}}
}

func pointer(namespace, name string) cdiv1.DataSourceSource {
	return cdiv1.DataSourceSource{DataSource: &cdiv1.DataSourceRefSourceDataSource{Namespace: namespace, Name: name}}
}

func volumeSnapshot() cdiv1.DataSourceSource {
	return cdiv1.DataSourceSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: "vms", Name: "snap"}}
}

func claimMade() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// claim is one in a phase; group is that of its dataSourceRef, empty for none.
func claim(phase corev1.PersistentVolumeClaimPhase, group string) *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "disk", UID: "claim-uid", CreationTimestamp: metav1.NewTime(claimMade())}}
	c.Status.Phase = phase
	if phase == corev1.ClaimBound {
		c.Spec.VolumeName = "pv"
	}
	if group != "" {
		kind := map[string]string{v1alpha1.Group: "VMDiskImage", golden.Group: golden.CronKind}[group]
		c.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(group), Kind: kind, Name: "any"}
	}
	return c
}

func verified(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	metav1.SetMetaDataAnnotation(&c.ObjectMeta, golden.AnnotationVerified, "true")
	return c
}

func importOf(phase v1alpha1.ImportPhase, volume string) *v1alpha1.VMDiskImport {
	return &v1alpha1.VMDiskImport{
		ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "disk", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: "disk", UID: "claim-uid", Controller: ptr.To(true)}}},
		Spec: v1alpha1.VMDiskImportSpec{ClaimRef: v1alpha1.ClaimReference{Name: "disk", UID: "claim-uid"}},
		Status: v1alpha1.VMDiskImportStatus{Phase: phase, VolumeName: volume, Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Reason: "ChecksumMismatch", Message: "it is another"}}},
	}
}

// fromCDI has a claim refer to what CDI has filled it from; phase is that of CDI's pod.
func fromCDI(c *corev1.PersistentVolumeClaim, phase string) *corev1.PersistentVolumeClaim {
	c.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: "VolumeImportSource", Name: "any"}
	metav1.SetMetaDataAnnotation(&c.ObjectMeta, golden.AnnotationPodPhase, phase)
	return c
}

func populated(value string) *corev1.PersistentVolume {
	pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv", CreationTimestamp: metav1.NewTime(claimMade())}}
	if value != "" {
		metav1.SetMetaDataAnnotation(&pv.ObjectMeta, golden.AnnotationPopulatedFrom, value)
	}
	return pv
}

// older is a volume from before its claim.
func older(pv *corev1.PersistentVolume) *corev1.PersistentVolume {
	pv.CreationTimestamp = metav1.NewTime(claimMade().Add(-time.Second))
	return pv
}

func snapshotThatIs(ready bool) *unstructured.Unstructured {
	s := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"readyToUse": ready}}}
	s.SetGroupVersionKind(snapshotKind())
	s.SetNamespace("vms")
	s.SetName("snap")
	return s
}

func TestJudge(t *testing.T) {
	const ours = golden.Group
	for _, test := range []struct {
		name   string
		view   view
		reason string
		says   string
	}{
		{"no source", view{dataSource: source("a", cdiv1.DataSourceSource{})}, reasonNoSource, "No source PVC set"},
		{"claim missing", view{dataSource: source("a", pvc("disk"))}, reasonNotFound, "PVC not found"},
		{"claim of somebody else, bound", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, "")}, reasonReady, "DataSource is ready to be consumed"},
		{"claim of another populator, bound", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, "example.org")}, reasonReady, ""},
		{"claim that CDI has filled", view{dataSource: source("a", pvc("disk")), claim: fromCDI(claim(corev1.ClaimBound, ours), "Succeeded")}, reasonReady, ""},
		{"claim that CDI was filling", view{dataSource: source("a", pvc("disk")), claim: fromCDI(claim(corev1.ClaimBound, ours), "Running")}, reasonNotFilled,
			"CDI was removed before it had filled the PVC: delete the PVC"},
		{"claim that CDI was to fill", view{dataSource: source("a", pvc("disk")), claim: fromCDI(claim(corev1.ClaimPending, ours), "")}, reasonNotBound, ""},
		{"claim of somebody else, pending", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimPending, "")}, reasonNotBound, "PVC is not bound"},
		{"claim of somebody else, lost", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimLost, "")}, reasonNotBound, "PVC is not bound"},
		{"golden claim, verified", view{dataSource: source("a", pvc("disk")), claim: verified(claim(corev1.ClaimBound, ours))}, reasonReady, ""},
		{"golden claim, verified, then lost", view{dataSource: source("a", pvc("disk")), claim: verified(claim(corev1.ClaimLost, ours))}, reasonNotBound, ""},
		{"import under way", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimPending, ours), imp: importOf(v1alpha1.PhaseImporting, "")}, "Importing", "Import phase Importing"},
		{"import failed", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimPending, ours), imp: importOf(v1alpha1.PhaseFailed, "")}, "Failed", "Import phase Failed: ChecksumMismatch: it is another"},
		{"import without a phase yet", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimPending, ours), imp: importOf("", "")}, reasonNotBound, ""},
		{"import done, not handed over", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimPending, ours), imp: importOf(v1alpha1.PhaseSucceeded, "pv")}, reasonNotBound, ""},
		{"import done, bound to its volume", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, v1alpha1.Group), imp: importOf(v1alpha1.PhaseSucceeded, "pv")}, reasonReady, ""},
		{"import done, bound to another volume", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, v1alpha1.Group), imp: importOf(v1alpha1.PhaseSucceeded, "pv-2")}, reasonNotFilled, "PVC is bound to a volume that its import has not filled"},
		{"bound while the import runs", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, ours), imp: importOf(v1alpha1.PhaseImporting, "")}, "Importing", ""},
		{"import gone, volume handed over", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, ours), volume: populated("vms/any")}, reasonReady, ""},
		{"import gone, volume handed over for another source", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, ours), volume: populated("vms/other")}, reasonNotFilled, ""},
		{"import gone, volume was filled for an older claim", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, ours), volume: older(populated("vms/any"))}, reasonNotFilled, ""},
		{"import gone, volume not handed over", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, ours), volume: populated("")}, reasonNotFilled, ""},
		{"import and volume gone", view{dataSource: source("a", pvc("disk")), claim: claim(corev1.ClaimBound, ours)}, reasonNotFilled, ""},
		{"snapshot missing", view{dataSource: source("a", volumeSnapshot())}, reasonNotFound, "Snapshot not found"},
		{"snapshot not ready", view{dataSource: source("a", volumeSnapshot()), snapshot: snapshotThatIs(false)}, reasonSnapshotNotReady, "Snapshot phase is not ready"},
		{"snapshot without status", view{dataSource: source("a", volumeSnapshot()), snapshot: &unstructured.Unstructured{Object: map[string]any{}}}, reasonSnapshotNotReady, ""},
		{"snapshot ready", view{dataSource: source("a", volumeSnapshot()), snapshot: snapshotThatIs(true)}, reasonReady, ""},
		{"pointer to itself", view{dataSource: source("a", pointer("vms", "a"))}, reasonSelf, ""},
		{"pointer to another namespace", view{dataSource: source("a", pointer("other", "a"))}, reasonCrossNamespace, "DataSource cannot refer to DataSource a of namespace other"},
		{"pointer to nothing", view{dataSource: source("a", pointer("", "b"))}, reasonNotFound, "DataSource not found"},
		{"pointer to a pointer", view{dataSource: source("a", pointer("vms", "b")), pointed: source("b", pointer("vms", "c"))}, reasonTooDeep, "DataSource b refers to another DataSource itself: refer to that one"},
		{"pointer to a claim", view{dataSource: source("a", pointer("vms", "b")), pointed: source("b", pvc("disk")), claim: claim(corev1.ClaimBound, "")}, reasonReady, ""},
		{"pointer to an empty one", view{dataSource: source("a", pointer("vms", "b")), pointed: source("b", cdiv1.DataSourceSource{})}, reasonNoSource, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := judge(&test.view)
			require.Equal(t, test.reason, got.reason)
			require.Equal(t, test.reason == reasonReady, got.ready)
			if test.says != "" {
				require.Equal(t, test.says, got.message)
			}
		})
	}
}

// TestOtherNamespaces: a DataSource tells no more than the state of what another namespace has.
func TestOtherNamespaces(t *testing.T) {
	labels := map[string]string{"instancetype.kubevirt.io/default-instancetype": "u1.small"}
	labelled := func(c *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
		c.Labels = labels
		return c
	}
	snapshot := snapshotThatIs(true)
	snapshot.SetLabels(labels)
	for name, test := range map[string]struct {
		view                  view
		reason, says, saysOwn string
	}{
		"import failed": {view{dataSource: source("a", pvc("disk")), claim: labelled(claim(corev1.ClaimPending, golden.Group)), imp: importOf(v1alpha1.PhaseFailed, "")},
			"Failed", "Import phase Failed", "Import phase Failed: ChecksumMismatch: it is another"},
		"claim ready":    {view{dataSource: source("a", pvc("disk")), claim: labelled(claim(corev1.ClaimBound, ""))}, reasonReady, "", ""},
		"snapshot ready": {view{dataSource: source("a", volumeSnapshot()), snapshot: snapshot}, reasonReady, "", ""},
		"behind a pointer": {view{dataSource: source("a", pointer("", "b")), pointed: source("b", pvc("disk")), claim: labelled(claim(corev1.ClaimPending, golden.Group)), imp: importOf(v1alpha1.PhaseFailed, "")},
			"Failed", "Import phase Failed", "Import phase Failed: ChecksumMismatch: it is another"},
	} {
		t.Run(name, func(t *testing.T) {
			own := judge(&test.view)
			require.Equal(t, test.reason, own.reason)
			if test.saysOwn != "" {
				require.Equal(t, test.saysOwn, own.message)
			} else {
				require.Equal(t, labels, own.labels)
			}
			test.view.dataSource.Namespace = "other"
			foreign := judge(&test.view)
			require.Equal(t, test.reason, foreign.reason)
			require.Equal(t, own.ready, foreign.ready)
			require.Empty(t, foreign.labels)
			if test.says != "" {
				require.Equal(t, test.says, foreign.message)
			}
		})
	}
}
