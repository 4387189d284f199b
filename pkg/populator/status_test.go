package populator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func TestStateFollowsKstatus(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		phase                       v1alpha1.ImportPhase
		ready, reconciling, stalled bool
	}{
		{v1alpha1.PhasePending, false, true, false},
		{v1alpha1.PhaseImporting, false, true, false},
		{v1alpha1.PhaseFailed, false, false, true},
		{v1alpha1.PhaseSucceeded, true, false, false},
	} {
		imp := testImport()
		// What an earlier state left must not stay.
		state{phase: v1alpha1.PhaseFailed, reason: "Old"}.apply(imp, now)
		state{phase: v1alpha1.PhaseImporting, reason: "Old"}.apply(imp, now)
		state{phase: test.phase, reason: "New", message: "words"}.apply(imp, now)
		for conditionType, want := range map[string]bool{
			v1alpha1.ConditionReady: test.ready, v1alpha1.ConditionReconciling: test.reconciling, v1alpha1.ConditionStalled: test.stalled,
		} {
			condition := meta.FindStatusCondition(imp.Status.Conditions, conditionType)
			if conditionType == v1alpha1.ConditionReady || want {
				require.NotNil(t, condition, "%s in %s", conditionType, test.phase)
				require.Equal(t, want, condition.Status == metav1.ConditionTrue)
				require.Equal(t, "New", condition.Reason)
			} else {
				require.Nil(t, condition, "%s in %s", conditionType, test.phase)
			}
		}
	}
}

func TestProgress(t *testing.T) {
	log := []byte(`starting
{"phase":"Importing","totalBytes":1000,"transferredBytes":10,"writtenBytes":5,"bytesPerSecond":104857600}
{"phase":"Importing","totalBytes":1000,"transferredBytes":420,"writtenBytes":400,"bytesPerSecond":104857600}
{"phase":"Conquering the world","transferredBytes":1}
{"phase":"Importing","tot`)
	p, ok := parseProgress(log)
	require.True(t, ok)
	require.Equal(t, &v1alpha1.ImportProgress{TotalBytes: 1000, TransferredBytes: 420, WrittenBytes: 400, Percent: "42%", Rate: "100 MiB/s"}, progressStatus(p))

	_, ok = parseProgress([]byte("nothing\nof use"))
	require.False(t, ok)

	p.TransferredBytes = 1000
	require.Equal(t, "99%", progressStatus(p).Percent, "the end is told by the result")
	p.TotalBytes = nil
	require.Empty(t, progressStatus(p).Percent)
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 98 << 20: "98 MiB", 1234 << 20: "1.21 GiB", 5 << 40: "5 TiB"} {
		require.Equal(t, want, formatBytes(n))
	}
}

func TestPace(t *testing.T) {
	p, now := newPace(), time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	require.Zero(t, p.wait("a", now))
	require.Equal(t, 3*time.Second, p.wait("a", now.Add(2*time.Second)))
	require.Zero(t, p.wait("b", now.Add(2*time.Second)))
	require.Zero(t, p.wait("a", now.Add(5*time.Second)))
}

func TestEventsAreToldOnce(t *testing.T) {
	sink := record.NewFakeRecorder(10)
	clock := testingclock.NewFakePassiveClock(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	r := newEventRecorder(sink, clock)
	claim := testClaim()
	r.Event(claim, corev1.EventTypeWarning, eventWaiting, "no Secret")
	r.Eventf(claim, corev1.EventTypeWarning, eventWaiting, "no %s", "Secret")
	r.Event(claim, corev1.EventTypeWarning, eventWaiting, "no ConfigMap")
	r.Event(claim, corev1.EventTypeNormal, "PopulatorFinished", "Populator finished")
	require.Len(t, sink.Events, 2)
	clock.SetTime(clock.Now().Add(sayAgain))
	r.Event(claim, corev1.EventTypeWarning, eventWaiting, "no ConfigMap")
	require.Len(t, sink.Events, 3)
}

func TestSummarize(t *testing.T) {
	image := testImage()
	summarize(image, nil, time.Unix(300, 0))
	require.Equal(t, reasonNotImportedYet, image.Status.Conditions[0].Reason)
	require.Equal(t, metav1.ConditionUnknown, image.Status.Conditions[0].Status)

	older, newer := testImport(), testImport()
	older.Name, newer.Name = "older", "newer"
	older.CreationTimestamp = metav1.NewTime(time.Unix(100, 0))
	newer.CreationTimestamp = metav1.NewTime(time.Unix(200, 0))
	older.Status.Result = &v1alpha1.ImportResult{Digest: "sha256:1", Time: metav1.NewTime(time.Unix(150, 0))}
	state{phase: v1alpha1.PhaseSucceeded, reason: reasonSucceeded}.apply(older, time.Unix(150, 0))
	state{phase: v1alpha1.PhaseFailed, reason: "NotFound"}.apply(newer, time.Unix(250, 0))
	summarize(image, []v1alpha1.VMDiskImport{*newer, *older}, time.Unix(300, 0))
	require.Equal(t, "NotFound", image.Status.Conditions[0].Reason)
	require.Equal(t, &v1alpha1.LastImport{Name: "older", Digest: "sha256:1", Time: metav1.NewTime(time.Unix(150, 0))}, image.Status.LastImport)

	summarize(image, nil, time.Unix(300, 0))
	require.NotNil(t, image.Status.LastImport, "the record stays when the claim has gone")
}

func TestShapePrime(t *testing.T) {
	claim := testClaim()
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}
	prime := testPrime(claim)
	require.Contains(t, prime.Spec.AccessModes, corev1.ReadWriteOnce, "a volume that can only be read cannot be filled")
	key, ok := claimKey(prime.Annotations)
	require.True(t, ok)
	require.Equal(t, "vms/web-1", key.String())

	for immediate, want := range map[string]bool{"true": false, "": true} {
		claim.Annotations = map[string]string{golden.AnnotationBindImmediately: immediate}
		prime = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationSelectedNode: "node1"}}}
		_, kept := shapePrime(prime, claim).Annotations[annotationSelectedNode]
		require.Equal(t, want, kept)
	}
}

func TestHandOverIsDueOnlyForTheVolumeThatWasFilled(t *testing.T) {
	imp, prime := testImport(), testPrime(testClaim())
	prime.Spec.VolumeName = "pv-1"
	imp.Status.Phase, imp.Status.TargetUID = v1alpha1.PhaseSucceeded, prime.UID
	require.True(t, handOverDue(imp, prime))

	other := prime.DeepCopy()
	other.UID = "made again under the same name"
	require.False(t, handOverDue(imp, other))
	require.False(t, handOverDue(imp, nil))
	unbound := prime.DeepCopy()
	unbound.Spec.VolumeName = ""
	require.False(t, handOverDue(imp, unbound))
	imp.Status.Phase = v1alpha1.PhaseVerifying
	require.False(t, handOverDue(imp, prime))
}
