package datavolume

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// waiting has the claim wait for its first consumer.
func waiting(v *view) {
	v.class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
}

// importing gives the claim an import.
func importing(phase v1alpha1.ImportPhase, reason string, changes ...func(*v1alpha1.VMDiskImport)) func(*view) {
	return func(v *view) {
		v.imp = anImport(v.claim, phase, reason)
		for _, change := range changes {
			change(v.imp)
		}
	}
}

func copying(kind string, by v1alpha1.Strategy) func(*v1alpha1.VMDiskImport) {
	return func(imp *v1alpha1.VMDiskImport) {
		imp.Spec.CopyOf, imp.Status.Strategy = &v1alpha1.CopySource{Kind: kind}, by
	}
}

func moved(total, transferred int64) func(*v1alpha1.VMDiskImport) {
	return func(imp *v1alpha1.VMDiskImport) {
		imp.Status.Progress = &v1alpha1.ImportProgress{TotalBytes: total, TransferredBytes: transferred}
	}
}

func filled(volume string) func(*v1alpha1.VMDiskImport) {
	return func(imp *v1alpha1.VMDiskImport) { imp.Status.VolumeName = volume }
}

func resting(imp *v1alpha1.VMDiskImport) {
	imp.Status.Attempts, imp.Status.NextAttemptTime = 2, ptr.To(metav1.NewTime(start().Add(time.Minute)))
	imp.Status.LastFailure = &v1alpha1.ImportFailure{Reason: "Stalled", Message: "the server sends nothing"}
}

// TestStatus: what a DataVolume says of its claim and import.
func TestStatus(t *testing.T) {
	pending, bound := corev1.ClaimPending, corev1.ClaimBound
	type conditions struct{ bound, ready, running string }
	notReady := func(reason string) conditions {
		return conditions{"False Pending PVC web-1 Pending", "False " + reason + " what the import says", "False " + reason + " what the import says"}
	}
	moving := conditions{"False Pending PVC web-1 Pending", "False TransferRunning ", "True Pod is running "}
	done := conditions{"True Bound PVC web-1 Bound", "True  ", "False Completed Import Complete"}
	cloned := conditions{"True Bound PVC web-1 Bound", "True  ", "False Completed Clone Complete"}
	const aboutTo = "False ImportWaiting the import is about to begin"
	ofGold := &origin{source: &cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "vms", Name: "gold"}}}
	for name, test := range map[string]struct {
		source   string
		claim    corev1.PersistentVolumeClaimPhase
		changes  []func(*view)
		phase    cdiv1.DataVolumePhase
		progress cdiv1.DataVolumeProgress
		restarts int32
		want     conditions
	}{
		"no import yet":           {fromHTTP, pending, nil, cdiv1.Pending, "N/A", 0, conditions{"False Pending PVC web-1 Pending", aboutTo, aboutTo}},
		"a claim of no phase yet": {fromHTTP, "", nil, cdiv1.Pending, "N/A", 0, conditions{"False Pending PVC web-1 Pending", aboutTo, aboutTo}},
		"a source that is not ready": {fromClaim, pending, []func(*view){func(v *view) { v.origin.waiting = &trouble{reason: reasonSourceNotReady, message: "why"} }},
			cdiv1.Pending, "N/A", 0, conditions{"False Pending PVC web-1 Pending", "False SourceNotReady why", "False SourceNotReady why"}},
		"no consumer, no import":    {fromHTTP, pending, []func(*view){waiting}, cdiv1.PendingPopulation, "N/A", 0, conditions{"False Pending PVC web-1 Pending", "False  ", "False  "}},
		"no consumer":               {fromHTTP, pending, []func(*view){waiting, importing(v1alpha1.PhasePending, "WaitForFirstConsumer")}, cdiv1.PendingPopulation, "N/A", 0, notReady("WaitForFirstConsumer")},
		"a consumer":                {fromHTTP, pending, []func(*view){waiting, onNode, importing(v1alpha1.PhasePending, "Starting")}, cdiv1.ImportScheduled, "N/A", 0, notReady("Starting")},
		"no consumer is waited for": {fromHTTP, pending, []func(*view){waiting, immediately, importing(v1alpha1.PhasePending, "Starting")}, cdiv1.ImportScheduled, "N/A", 0, notReady("Starting")},
		"queued":                    {fromHTTP, pending, []func(*view){importing(v1alpha1.PhaseQueued, "Queued")}, cdiv1.ImportScheduled, "N/A", 0, notReady("Queued")},
		"no image of the importer":  {fromHTTP, pending, []func(*view){importing(v1alpha1.PhasePending, "ImagePullFailed")}, cdiv1.ImportScheduled, "N/A", 0, notReady("ImagePullFailed")},
		"importing":                 {fromHTTP, pending, []func(*view){importing(v1alpha1.PhaseImporting, "Importing")}, cdiv1.ImportInProgress, "N/A", 0, moving},
		"half of it":                {fromHTTP, pending, []func(*view){importing(v1alpha1.PhaseImporting, "Importing", moved(3000, 1000))}, cdiv1.ImportInProgress, "33.33%", 0, moving},
		"all, not yet verified":     {fromHTTP, pending, []func(*view){importing(v1alpha1.PhaseVerifying, "Verifying", moved(3000, 3000))}, cdiv1.ImportInProgress, "99.99%", 0, moving},
		"between two attempts": {fromHTTP, pending, []func(*view){importing(v1alpha1.PhasePending, "Stalled", resting)}, cdiv1.ImportScheduled, "N/A", 1,
			conditions{"False Pending PVC web-1 Pending", "False Error Stalled: the server sends nothing", "False Error Stalled: the server sends nothing"}},
		"failed": {fromHTTP, pending, []func(*view){importing(v1alpha1.PhaseFailed, "NotFound", moved(10, 1))}, cdiv1.Failed, "10.00%", 0,
			conditions{"False Pending PVC web-1 Pending", "False Error NotFound: what the import says", "False Error NotFound: what the import says"}},
		"filled, not yet bound": {fromHTTP, pending, []func(*view){importing(v1alpha1.PhaseSucceeded, "Succeeded", filled("pv-1"))}, cdiv1.RebindInProgress, "N/A", 0, notReady("Succeeded")},
		"filled":                {fromHTTP, bound, []func(*view){importing(v1alpha1.PhaseSucceeded, "Succeeded", filled("pv-1"))}, cdiv1.Succeeded, "100.0%", 0, done},
		"another volume": {fromHTTP, bound, []func(*view){importing(v1alpha1.PhaseSucceeded, "Succeeded", filled("pv-2"))}, cdiv1.RebindInProgress, "N/A", 0,
			conditions{"True Bound PVC web-1 Bound", "False Succeeded what the import says", "False Succeeded what the import says"}},
		"bound too early": {fromHTTP, bound, []func(*view){importing(v1alpha1.PhaseFailed, "BoundToForeignVolume")}, cdiv1.Failed, "N/A", 0,
			conditions{"True Bound PVC web-1 Bound", "False Error BoundToForeignVolume: what the import says", "False Error BoundToForeignVolume: what the import says"}},
		"filled long ago": {fromHTTP, bound, []func(*view){func(v *view) { v.handedOver = true }}, cdiv1.Succeeded, "100.0%", 0, done},
		"filled by nobody": {fromHTTP, bound, nil, cdiv1.Failed, "N/A", 0, conditions{"True Bound PVC web-1 Bound",
			"False Error BoundToForeignVolume: PVC web-1 was bound to volume pv-1 before it could be filled: delete it, and use a StorageClass that has no such volume",
			"False Error BoundToForeignVolume: PVC web-1 was bound to volume pv-1 before it could be filled: delete it, and use a StorageClass that has no such volume"}},
		"adopted":                   {fromHTTP, bound, []func(*view){adopted}, cdiv1.Succeeded, "100.0%", 0, done},
		"adopted, of CDI":           {fromHTTP, bound, []func(*view){adopted, plain}, cdiv1.Succeeded, "100.0%", 0, done},
		"left by CDI":               {fromHTTP, bound, []func(*view){plain}, cdiv1.Succeeded, "100.0%", 0, done},
		"filled by CDI":             {fromHTTP, bound, []func(*view){ofCDI("Succeeded")}, cdiv1.Succeeded, "100.0%", 0, done},
		"filled by CDI, as it said": {fromHTTP, bound, []func(*view){ofCDI("Running"), func(v *view) { v.volume.Status.Phase = cdiv1.Succeeded }}, cdiv1.Succeeded, "100.0%", 0, done},
		"CDI went before it was filled": {fromHTTP, bound, []func(*view){ofCDI("Running")}, cdiv1.Failed, "N/A", 0, conditions{"True Bound PVC web-1 Bound",
			"False Error LeftByCDI: CDI was removed before it had filled PVC web-1: delete that, and it is made and filled anew",
			"False Error LeftByCDI: CDI was removed before it had filled PVC web-1: delete that, and it is made and filled anew"}},
		"CDI went before it was bound": {fromHTTP, pending, []func(*view){waiting, ofCDI("")}, cdiv1.Pending, "N/A", 0, conditions{"False Pending PVC web-1 Pending",
			"False LeftByCDI PVC web-1 is to be filled from a VolumeImportSource, as only CDI does: delete that PVC, and it is made and filled anew",
			"False LeftByCDI PVC web-1 is to be filled from a VolumeImportSource, as only CDI does: delete that PVC, and it is made and filled anew"}},
		"adopted, and nobody has used it": {fromHTTP, pending, []func(*view){adopted, plain, waiting}, cdiv1.Succeeded, "100.0%", 0,
			conditions{"False Pending PVC web-1 Pending", "True  ", "False Completed Import Complete"}},
		"a copy begins":          {fromClaim, pending, []func(*view){importing(v1alpha1.PhasePending, "Starting", copying(v1alpha1.CopyOfClaim, ""))}, cdiv1.CloneScheduled, "N/A", 0, notReady("Starting")},
		"a copy":                 {fromClaim, pending, []func(*view){importing(v1alpha1.PhaseImporting, "Importing", copying(v1alpha1.CopyOfClaim, v1alpha1.StrategyCopy))}, cdiv1.CloneInProgress, "N/A", 0, moving},
		"restored":               {fromClaim, pending, []func(*view){importing(v1alpha1.PhaseImporting, "Importing", copying(v1alpha1.CopyOfClaim, v1alpha1.StrategySnapshot))}, cdiv1.SnapshotForSmartCloneInProgress, "N/A", 0, moving},
		"restored of a snapshot": {fromClaim, pending, []func(*view){importing(v1alpha1.PhaseImporting, "Importing", copying(v1alpha1.CopyOfSnapshot, v1alpha1.StrategySnapshot))}, cdiv1.CloneFromSnapshotSourceInProgress, "N/A", 0, moving},
		"imported again":         {fromClaim, pending, []func(*view){importing(v1alpha1.PhaseImporting, "Importing", copying(v1alpha1.CopyOfClaim, v1alpha1.StrategyImport))}, cdiv1.ImportInProgress, "N/A", 0, moving},
		"copied":                 {fromClaim, bound, []func(*view){importing(v1alpha1.PhaseSucceeded, "Succeeded", filled("pv-1"))}, cdiv1.Succeeded, "100.0%", 0, cloned},
		"lost":                   {fromHTTP, corev1.ClaimLost, nil, cdiv1.Failed, "N/A", 0, conditions{"False ClaimLost Claim Lost", "False ClaimLost PVC web-1 lost", "False ClaimLost PVC web-1 lost"}},
		"nothing fills it":       {`contentType: kubevirt`, pending, []func(*view){plain, waiting}, cdiv1.WaitForFirstConsumer, "N/A", 0, conditions{"False Pending PVC web-1 Pending", "False  ", "False  "}},
		"others fill it":         {`contentType: kubevirt`, pending, []func(*view){others, waiting}, cdiv1.PendingPopulation, "N/A", 0, conditions{"False Pending PVC web-1 Pending", "False  ", "False  "}},
		"others fill it now":     {`contentType: kubevirt`, pending, []func(*view){others}, cdiv1.Pending, "N/A", 0, conditions{"False Pending PVC web-1 Pending", "False  ", "False  "}},
	} {
		t.Run(name, func(t *testing.T) {
			v := aView(aVolume(t, test.source, storage))
			if test.source == fromClaim {
				v.origin = &origin{source: ofGold.source}
			}
			withClaim(t, v, test.claim)
			for _, change := range test.changes {
				change(v)
			}
			status := statusOf(v, nil)
			require.Equal(t, test.phase, status.Phase)
			require.Equal(t, test.progress, status.Progress)
			require.Equal(t, test.restarts, status.RestartCount)
			require.Equal(t, "web-1", status.ClaimName)
			require.Equal(t, test.want, conditions{said(status, cdiv1.DataVolumeBound), said(status, cdiv1.DataVolumeReady), said(status, cdiv1.DataVolumeRunning)})
			require.Len(t, status.Conditions, 3)
		})
	}
}

func said(status *cdiv1.DataVolumeStatus, kind cdiv1.DataVolumeConditionType) string {
	c := conditionOf(status, kind)
	return string(c.Status) + " " + c.Reason + " " + c.Message
}

func onNode(v *view) {
	metav1.SetMetaDataAnnotation(&v.claim.ObjectMeta, annotationSelectedNode, "node-1")
}
func immediately(v *view) {
	metav1.SetMetaDataAnnotation(&v.claim.ObjectMeta, golden.AnnotationBindImmediately, "true")
}
func adopted(v *view) { delete(v.claim.Annotations, annotationCreatedFor) }
func plain(v *view)   { v.claim.Spec.DataSourceRef = nil }

// ofCDI has CDI fill the claim, whose pod is in a phase.
func ofCDI(phase string) func(*view) {
	return func(v *view) {
		v.claim.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: "VolumeImportSource", Name: "source"}
		metav1.SetMetaDataAnnotation(&v.claim.ObjectMeta, golden.AnnotationPodPhase, phase)
	}
}

func others(v *view) {
	v.claim.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To("snapshot.storage.k8s.io"), Kind: "VolumeSnapshot", Name: "gold"}
}

// TestHeartbeat: a transition is a change of the status, a heartbeat any change, and what is the same leaves both.
func TestHeartbeat(t *testing.T) {
	status := &cdiv1.DataVolumeStatus{}
	at := func(minute int) time.Time { return start().Add(time.Duration(minute) * time.Minute) }
	set := func(minute int, is corev1.ConditionStatus, reason, message string) {
		setCondition(status, cdiv1.DataVolumeReady, is, reason, message, at(minute))
	}
	requireTimes := func(transition, heartbeat int) {
		t.Helper()
		require.Len(t, status.Conditions, 1)
		require.True(t, status.Conditions[0].LastTransitionTime.Time.Equal(at(transition)))
		require.True(t, status.Conditions[0].LastHeartbeatTime.Time.Equal(at(heartbeat)))
	}
	set(1, corev1.ConditionFalse, "a", "b")
	requireTimes(1, 1)
	set(2, corev1.ConditionFalse, "a", "b")
	requireTimes(1, 1)
	set(3, corev1.ConditionFalse, "a", "c")
	requireTimes(1, 3)
	set(4, corev1.ConditionFalse, "d", "c")
	requireTimes(1, 4)
	set(5, corev1.ConditionTrue, "d", "c")
	requireTimes(5, 5)
}
