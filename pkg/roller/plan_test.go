package roller

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func TestDecide(t *testing.T) {
	a, b, c := revisionOf("a"), revisionOf("b"), revisionOf("c")
	nameA, nameB, nameC := nameOf("a"), nameOf("b"), nameOf("c")
	copied := &golden.Revision{Digest: "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", Claim: &golden.Claim{Namespace: "golden-images", Name: "gold", UID: "7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"}}
	elsewhere := &golden.Revision{Digest: copied.Digest, Claim: &golden.Claim{Namespace: "other", Name: "gold", UID: copied.Claim.UID}}
	goodA := func() *goldenClaim { return aClaim(a, goodSince(time.Hour)) }
	for _, test := range []struct {
		name  string
		world *world
		want  []string
		// progressing and upToDate are the reasons, and whether they are True.
		progressing, upToDate string
		isProgressing, isUp   bool
		again                 time.Duration
	}{
		{name: "a new cron", world: func() *world {
			w := worldOf(nil)
			w.cron.Finalizers = nil
			return w
		}(), want: []string{"record"}, progressing: reasonNoImport, upToDate: reasonNoDigest},
		{name: "a new cron, soon polled", world: func() *world {
			w := worldOf(nil)
			w.cron.Finalizers, w.cron.CreationTimestamp = nil, metav1.NewTime(start().Add(-10*time.Second))
			return w
		}(), again: firstPoll - 10*time.Second},
		{name: "an old cron, soon polled by a new poller", world: func() *world {
			w := worldOf(nil)
			w.cron.Finalizers, w.cron.CreationTimestamp, w.since = nil, metav1.NewTime(start().Add(-time.Hour)), start()
			return w
		}(), again: firstPoll},
		{name: "a new cron whose poll is late", world: func() *world {
			w := worldOf(nil)
			w.cron.Finalizers, w.cron.CreationTimestamp = nil, metav1.NewTime(start().Add(-firstPoll))
			return w
		}(), want: []string{"record"}, progressing: reasonNoImport, upToDate: reasonNoDigest},
		{name: "a new cron whose first poll has failed", world: func() *world {
			w := worldOf(nil)
			w.cron.Finalizers, w.cron.CreationTimestamp = nil, metav1.NewTime(start())
			setCondition(w.cron, "SourcePolled", corev1.ConditionFalse, "NotFound", "it is gone", start())
			return w
		}(), want: []string{"record"}, progressing: reasonNoImport, upToDate: reasonNoDigest},
		{name: "a new cron without a schedule", world: func() *world {
			w := worldOf(nil)
			w.cron.Finalizers, w.cron.CreationTimestamp, w.cron.Spec.Schedule = nil, metav1.NewTime(start()), ""
			return w
		}(), want: []string{"record"}, progressing: reasonNoImport, upToDate: reasonNoDigest},
		{name: "a new cron with a revision is held first", world: func() *world {
			w := worldOf(a)
			w.cron.Finalizers = nil
			return w
		}(), want: []string{"record"}},
		{name: "nothing polled yet", world: worldOf(nil), want: []string{"record"}, progressing: reasonNoImport, upToDate: reasonNoDigest},
		{name: "digest written by hand, not looked up yet", world: func() *world {
			w := worldOf(nil)
			w.cron.Annotations = map[string]string{golden.AnnotationDesiredDigest: digestOf("b")}
			return w
		}(), want: []string{"record"}, progressing: reasonNoImport, upToDate: reasonOutdated},
		{name: "digest written by hand, the DataSource is kept", world: func() *world {
			good := goodA()
			w := worldOf(nil, good).settled(good, a)
			metav1.SetMetaDataAnnotation(&w.cron.ObjectMeta, golden.AnnotationDesiredDigest, digestOf("b"))
			w.dataSource.Spec.Source.PVC.Name = "edited"
			return w
		}(), want: []string{"repoint fedora to " + nameA, "record"}, progressing: reasonNoImport, upToDate: reasonOutdated},
		{name: "a revision", world: worldOf(a), want: []string{"create " + nameA, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "no class", world: func() *world { w := worldOf(a); w.class = ""; return w }(), want: []string{"record"}, progressing: reasonNoClass, upToDate: reasonOutdated},
		{name: "no class any more, the import goes on", world: func() *world {
			w := worldOf(a, aClaim(a, importing(v1alpha1.PhaseImporting, 1)))
			w.class = ""
			return w
		}(), want: []string{"record"}, progressing: reasonProgressing, isProgressing: true, upToDate: reasonProgressing},
		{name: "no size", world: func() *world {
			w := worldOf(a)
			w.cron.Spec.Template.Spec.Storage.Resources.Requests = nil
			return w
		}(), want: []string{"record"}, progressing: reasonTemplate, upToDate: reasonOutdated},
		{name: "claim made, no import yet", world: worldOf(a, aClaim(a)), want: []string{"record"}, progressing: reasonScheduled, upToDate: reasonOutdated, again: importWait},
		{name: "import waits", world: worldOf(a, aClaim(a, importing(v1alpha1.PhaseQueued, 0))), want: []string{"record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "import runs", world: worldOf(a, aClaim(a, importing(v1alpha1.PhaseImporting, 1))), want: []string{"record"}, progressing: reasonProgressing, isProgressing: true, upToDate: reasonProgressing},
		{name: "import done, not bound", world: worldOf(a, aClaim(a, importing(v1alpha1.PhaseSucceeded, 1))), want: []string{"record"}, progressing: reasonProgressing, isProgressing: true, upToDate: reasonProgressing},
		{name: "filled", world: worldOf(a, aClaim(a, filled("sha256:x"))), want: []string{"verify " + nameA, "record"}},
		{name: "filled, template edited since", world: func() *world {
			w := worldOf(a, aClaim(a, filled("sha256:x")))
			w.cron.Spec.Template.Spec.Storage.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("9Gi")
			return w
		}(), want: []string{"verify " + nameA, "record"}},
		{name: "bound to another volume than was filled", world: worldOf(a, aClaim(a, filled("sha256:x"), func(c *goldenClaim) { c.Spec.VolumeName = "foreign" })),
			want: []string{"record"}, progressing: reasonForeignVolume, upToDate: reasonOutdated},
		{name: "bound without an import", world: worldOf(a, aClaim(a, func(c *goldenClaim) { c.Status.Phase = corev1.ClaimBound })),
			want: []string{"record"}, progressing: reasonForeignVolume, upToDate: reasonOutdated},
		{name: "bound, its import is gone but was handed over", world: worldOf(a, aClaim(a, func(c *goldenClaim) { c.Status.Phase, c.handedOver = corev1.ClaimBound, true })),
			want: []string{"verify " + nameA, "record"}},
		{name: "verified", world: worldOf(a, goodA()), want: []string{"repoint fedora to " + nameA}},
		{name: "repointed", world: func() *world { good := goodA(); return worldOf(a, good).pointed(good) }(), want: []string{"record"}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "settled", world: func() *world { good := goodA(); return worldOf(a, good).settled(good, a) }(), want: nil, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the DataSource was deleted", world: func() *world { good := goodA(); w := worldOf(a, good).settled(good, a); w.dataSource = nil; return w }(),
			want: []string{"repoint fedora to " + nameA}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the DataSource is being deleted", world: func() *world {
			good := goodA()
			w := worldOf(a, good).settled(good, a)
			w.dataSource.DeletionTimestamp = ptr.To(metav1.NewTime(start()))
			return w
		}(), want: nil, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the DataSource was given another source", world: func() *world {
			good := goodA()
			w := worldOf(a, good).settled(good, a)
			w.dataSource.Spec.Source = cdiv1.DataSourceSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Name: "s"}}
			return w
		}(), want: []string{"repoint fedora to " + nameA}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the DataSource is nobody's", world: func() *world {
			good := goodA()
			w := worldOf(a, good).pointed(good)
			w.dataSource.Labels, w.dataSource.Spec.Source.PVC.Name = nil, "theirs"
			return w
		}(), want: []string{"record"}, progressing: reasonNotManaged, upToDate: reasonUpToDate, isUp: true},
		{name: "the DataSource is another cron's", world: func() *world { w := worldOf(a); w.rival = "older-cron"; return w }(), want: []string{"record"}, progressing: reasonAlreadyManaged},
		{name: "the DataSource is that of a cron that is gone", world: func() *world {
			good := goodA()
			w := worldOf(a, good).settled(good, a)
			w.dataSource.Labels[golden.LabelCron] = "gone-cron"
			return w
		}(), want: []string{"repoint fedora to " + nameA}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the cron was labelled", world: func() *world {
			good := goodA()
			w := worldOf(a, good).settled(good, a)
			w.cron.Labels = map[string]string{"instancetype.kubevirt.io/default-preference": "fedora"}
			return w
		}(), want: []string{"touch " + nameA}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},

		{name: "a newer revision", world: func() *world { good := goodA(); return worldOf(b, good).settled(good, a) }(),
			want: []string{"create " + nameB, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "a newer revision, the one before is imported", world: worldOf(b, aClaim(a, importing(v1alpha1.PhaseImporting, 1))),
			want: []string{"drop " + nameA, "create " + nameB, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "a newer revision, the one before is filled but not verified", world: worldOf(b, aClaim(a, filled("sha256:x"))),
			want: []string{"drop " + nameA, "create " + nameB, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "a newer revision, the one before fails", world: func() *world {
			good := goodA()
			return worldOf(c, good, aClaim(b, failing("NotFound", time.Minute))).settled(good, a)
		}(), want: []string{"drop " + nameB, "create " + nameC, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "newer is verified, older was current", world: func() *world {
			good := goodA()
			return worldOf(b, good, aClaim(b, goodSince(0))).settled(good, a)
		}(), want: []string{"repoint fedora to " + nameB}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "back to an earlier one", world: func() *world {
			newer := aClaim(b, goodSince(time.Minute))
			return worldOf(a, goodA(), newer).settled(newer, b)
		}(), want: []string{"touch " + nameA}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "back to an earlier one, touched", world: func() *world {
			newer := aClaim(b, goodSince(time.Minute))
			return worldOf(a, aClaim(a, goodSince(0)), newer).settled(newer, b)
		}(), want: []string{"repoint fedora to " + nameA}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the newest claim was deleted, the DataSource pointed to an older one meanwhile", world: func() *world {
			good := goodA()
			w := worldOf(b, good, aClaim(b, importing(v1alpha1.PhaseImporting, 1))).settled(good, b)
			w.cron.Status.LastImportedPVC.Name = nameB
			return w
		}(), want: []string{"record"}, progressing: reasonProgressing, isProgressing: true, upToDate: reasonProgressing},
		{name: "the cron was labelled while a newer revision is imported", world: func() *world {
			good := goodA()
			w := worldOf(b, good, aClaim(b, importing(v1alpha1.PhaseImporting, 1))).settled(good, a)
			w.cron.Labels = map[string]string{"instancetype.kubevirt.io/default-preference": "fedora"}
			return w
		}(), want: []string{"touch " + nameA, "record"}, progressing: reasonProgressing, isProgressing: true, upToDate: reasonProgressing},
		{name: "the same bytes", world: func() *world {
			good := goodA()
			return worldOf(b, good, aClaim(b, filled(good.Annotations[golden.AnnotationVerified]))).settled(good, a)
		}(), want: []string{"record"}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the same bytes, recorded", world: func() *world {
			good := goodA()
			return worldOf(b, good, aClaim(b, filled(good.Annotations[golden.AnnotationVerified]))).settled(good, b)
		}(), want: []string{"drop " + nameB, "record"}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the same bytes on another class", world: func() *world {
			good := aClaim(a, onSlow, goodSince(time.Hour))
			return worldOf(b, good, aClaim(b, filled(good.Annotations[golden.AnnotationVerified]))).settled(good, a)
		}(), want: []string{"verify " + nameB, "record"}, progressing: reasonNoImport, upToDate: reasonOutdated},
		{name: "bytes nobody has counted are not the same", world: func() *world {
			good := goodA()
			good.Annotations[golden.AnnotationVerified] = unknownDigest
			return worldOf(b, good, aClaim(b, filled(""))).settled(good, a)
		}(), want: []string{"verify " + nameB, "record"}, progressing: reasonNoImport, upToDate: reasonOutdated},
		{name: "the current claim was deleted", world: func() *world {
			good := goodA()
			w := worldOf(a).settled(good, a)
			return w
		}(), want: []string{"create " + nameA, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "the current claim is being deleted", world: func() *world {
			good := aClaim(a, goodSince(time.Hour), going)
			return worldOf(a, good).settled(good, a)
		}(), want: []string{"record"}, progressing: reasonScheduled, upToDate: reasonOutdated, again: nameWait},
		{name: "the current claim takes long to be deleted", world: func() *world {
			good := aClaim(a, goodSince(time.Hour), going)
			w := worldOf(a, good).settled(good, a)
			w.now = start().Add(nameWait)
			return w
		}(), want: []string{"create " + golden.SecondClaimName("fedora", digestOf("a"), "fast"), "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "the current claim has lost its volume", world: func() *world {
			good := aClaim(a, goodSince(time.Hour), lost)
			return worldOf(a, good).settled(good, a)
		}(), want: []string{"drop " + nameA, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated, again: nameWait},
		{name: "a claim of a stranger bears the name", world: func() *world { w := worldOf(a); w.taken = []string{nameA}; return w }(),
			want: []string{"create " + golden.SecondClaimName("fedora", digestOf("a"), "fast"), "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "claims of strangers bear both names", world: func() *world {
			w := worldOf(a)
			w.taken = []string{nameA, golden.SecondClaimName("fedora", digestOf("a"), "fast")}
			return w
		}(), want: []string{"record"}, progressing: reasonNameTaken, upToDate: reasonOutdated, again: askAgain},

		{name: "another class, the copy is made", world: func() *world {
			good := aClaim(a, onSlow, goodSince(time.Hour))
			return worldOf(a, good).settled(good, a)
		}(), want: []string{"create " + golden.SecondClaimName("fedora", digestOf("a"), "fast"), "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "another class, a pending claim goes", world: worldOf(a, aClaim(a, onSlow)),
			want: []string{"drop " + nameA, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated, again: nameWait},
		{name: "another class, the copy is verified", world: func() *world {
			good := aClaim(a, onSlow, goodSince(time.Hour))
			return worldOf(a, good, aClaim(a, named("fedora-second"), goodSince(0))).settled(good, a)
		}(), want: []string{"repoint fedora to fedora-second"}, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "no default class any more", world: func() *world {
			good := goodA()
			w := worldOf(a, good).settled(good, a)
			w.class = ""
			return w
		}(), want: nil, progressing: reasonNoImport, upToDate: reasonUpToDate, isUp: true},
		{name: "the size was edited while the import fails", world: func() *world {
			w := worldOf(a, aClaim(a, failing("DoesNotFit", time.Minute)))
			w.cron.Spec.Template.Spec.Storage.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("9Gi")
			return w
		}(), want: []string{"drop " + nameA, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated, again: nameWait},
		{name: "the source's Secret was edited while the import fails", world: func() *world {
			edited := revisionOf("a")
			edited.Source.HTTP.SecretRef = "login"
			return worldOf(edited, aClaim(a, failing("AuthenticationFailed", time.Minute)))
		}(), want: []string{"drop " + nameA, "record"}, progressing: reasonScheduled, upToDate: reasonOutdated, again: nameWait},

		{name: "import failed", world: worldOf(a, aClaim(a, failing("NotFound", 10*time.Second))),
			want: []string{"count " + nameA, "record"}, progressing: "NotFound", upToDate: reasonOutdated, again: 50 * time.Second},
		{name: "import failed, counted", world: worldOf(a, aClaim(a, failing("NotFound", 10*time.Second), counted(3))),
			want: []string{"record"}, progressing: "NotFound", upToDate: reasonOutdated, again: 4*time.Minute - 10*time.Second},
		{name: "import failed long ago, not counted", world: worldOf(a, aClaim(a, failing("NotFound", time.Hour))),
			want: []string{"count " + nameA, "record"}, progressing: "NotFound", upToDate: reasonOutdated},
		{name: "import failed, its time has come", world: worldOf(a, aClaim(a, failing("NotFound", time.Minute), counted(1))),
			want: []string{"restart " + nameA, "record"}, progressing: "NotFound", upToDate: reasonOutdated},
		{name: "import failed on a bound claim", world: worldOf(a, aClaim(a, failing(reasonForeignVolume, time.Hour), counted(1), func(c *goldenClaim) { c.Status.Phase = corev1.ClaimBound })),
			want: []string{"record"}, progressing: reasonForeignVolume, upToDate: reasonOutdated},

		{name: "a claim is copied", world: func() *world {
			w := worldOf(copied)
			w.origin = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "gold", UID: copied.Claim.UID}}
			return w
		}(), want: []string{"create fedora-7f0a7f0e-8a5", "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "a claim that is copied is gone", world: worldOf(copied), want: []string{"record"}, progressing: reasonSourceGone, upToDate: reasonOutdated, again: askAgain},
		{name: "a claim that is copied was made anew", world: func() *world {
			w := worldOf(copied)
			w.origin = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "gold", UID: "another"}}
			return w
		}(), want: []string{"record"}, progressing: reasonSourceGone, upToDate: reasonOutdated, again: askAgain},
		{name: "a claim of another namespace", world: func() *world {
			w := worldOf(elsewhere)
			w.origin = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "gold", UID: copied.Claim.UID}}
			return w
		}(), want: []string{"create fedora-7f0a7f0e-8a5", "record"}, progressing: reasonScheduled, upToDate: reasonOutdated},
		{name: "a claim is being copied", world: worldOf(copied, aClaim(copied, func(c *goldenClaim) {
			c.imp = &v1alpha1.VMDiskImport{Status: v1alpha1.VMDiskImportStatus{Strategy: v1alpha1.StrategySnapshot}}
		})), want: []string{"record"}, progressing: reasonProgressing, isProgressing: true, upToDate: reasonProgressing},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.world.cron.DeepCopy()
			p := decide(test.world)
			require.Equal(t, before, test.world.cron, "the world is only read")
			var got []string
			for i := range p.steps {
				got = append(got, p.steps[i].String())
			}
			require.Equal(t, test.want, got)
			require.Equal(t, test.again, p.again)
			requireCondition(t, p.cron, cdiv1.DataImportCronProgressing, test.progressing, test.isProgressing)
			requireCondition(t, p.cron, cdiv1.DataImportCronUpToDate, test.upToDate, test.isUp)
		})
	}
}

func requireCondition(t *testing.T, cron *cdiv1.DataImportCron, kind cdiv1.DataImportCronConditionType, reason string, isTrue bool) {
	t.Helper()
	state := conditionOf(cron.DeepCopy(), kind)
	require.Equal(t, reason, state.Reason, "%s: %s", kind, state.Message)
	if reason != "" {
		require.Equal(t, isTrue, state.Status == corev1.ConditionTrue, kind)
		require.NotEmpty(t, state.Message)
		require.False(t, state.LastHeartbeatTime.IsZero())
	}
}

func TestSourceChangedAsksForAPoll(t *testing.T) {
	p := decide(worldOf(revisionOf("a"), aClaim(revisionOf("a"), failing("SourceChanged", 10*time.Second))))
	require.Equal(t, "source-changed-aaaaaaaaaaaa-import-uid", p.cron.Annotations[golden.AnnotationPollNow])
	p = decide(worldOf(revisionOf("a"), aClaim(revisionOf("a"), failing("NotFound", 10*time.Second))))
	require.NotContains(t, p.cron.Annotations, golden.AnnotationPollNow)
}

// TestSourceThatKeepsChanging has each poll find another state than the import after it: polls are asked
// for later and later, once for each failure, until an import succeeds.
func TestSourceThatKeepsChanging(t *testing.T) {
	w := worldOf(revisionOf("a"), aClaim(revisionOf("a"), failing(reasonSourceChanged, 0)))
	failure := w.claims[0]
	var waits []time.Duration
	for i := range 9 {
		failure.imp.UID = types.UID(fmt.Sprintf("import-%d", i))
		failure.imp.Status.LastFailure.Time = metav1.NewTime(w.now)
		want := "source-changed-aaaaaaaaaaaa-" + string(failure.imp.UID)
		began := w.now
		for range 3 {
			p := decide(w)
			w.cron = p.cron
			if w.cron.Annotations[golden.AnnotationPollNow] == want {
				break
			}
			w.now = w.now.Add(p.again)
			failure.Annotations[annotationFailures] = failures{Count: 1, Last: string(failure.imp.UID) + began.Format(" "+time.RFC3339)}.String()
		}
		require.Equal(t, want, w.cron.Annotations[golden.AnnotationPollNow])
		waits = append(waits, w.now.Sub(began))
		p := decide(w)
		for j := range p.steps {
			require.NotEqual(t, restartImport, p.steps[j].do, "a poll comes before the next try")
		}
	}
	m := time.Minute
	require.Equal(t, []time.Duration{0, m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, 60 * m, 60 * m}, waits)

	metav1.SetMetaDataAnnotation(&w.cron.ObjectMeta, golden.AnnotationPollNow, "by a user")
	require.Equal(t, "by a user", decide(w).cron.Annotations[golden.AnnotationPollNow], "a poll is asked for once")

	good := aClaim(revisionOf("a"), goodSince(time.Hour))
	w.claims = []*goldenClaim{good}
	require.NotContains(t, decide(w.pointed(good)).cron.Annotations, annotationSourceChanges)
}

// TestPolledIsNotImported has a poll find the same digest with other validators: the publisher has
// uploaded the file, and its checksums not yet.
func TestPolledIsNotImported(t *testing.T) {
	a := revisionOf("a")
	polled := revisionOf("a")
	polled.Pin = &v1alpha1.Pin{ETag: `"newer"`, Length: 8}
	good := aClaim(a, goodSince(time.Hour))
	require.Empty(t, decide(worldOf(polled, good).settled(good, a)).steps)
	require.Equal(t, a.String(), decide(worldOf(polled, good).pointed(good)).cron.Annotations[golden.AnnotationImported])

	// The same bytes were imported under another digest before.
	b := revisionOf("b")
	polled.Digest = b.Digest
	require.Equal(t, b.String(), decide(worldOf(polled, good).settled(good, b)).cron.Annotations[golden.AnnotationImported])

	// They are now.
	same := aClaim(b, filled(good.Annotations[golden.AnnotationVerified]))
	require.Equal(t, b.String(), decide(worldOf(b, good, same).settled(good, a)).cron.Annotations[golden.AnnotationImported])
}

// TestNoImportIsTold has something keep the populator from making the import of a claim.
func TestNoImportIsTold(t *testing.T) {
	w := worldOf(revisionOf("a"), aClaim(revisionOf("a")))
	w.now = start().Add(importWait)
	require.Equal(t, "Import is scheduled: claim "+nameOf("a")+" has no import yet; its events say why", conditionOf(decide(w).cron, cdiv1.DataImportCronProgressing).Message)
}

func TestProgressingTellsWhy(t *testing.T) {
	p := decide(worldOf(revisionOf("a"), aClaim(revisionOf("a"), failing("NotFound", 10*time.Second))))
	require.Equal(t, "Import failed: it broke; try 2 starts at 2026-11-21T12:00:50Z", conditionOf(p.cron, cdiv1.DataImportCronProgressing).Message)

	waiting := aClaim(revisionOf("a"), importing(v1alpha1.PhasePending, 0))
	waiting.imp.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: "SecretNotFound", Message: "create Secret login"}}
	p = decide(worldOf(revisionOf("a"), waiting))
	require.Equal(t, "Import is scheduled: SecretNotFound: create Secret login", conditionOf(p.cron, cdiv1.DataImportCronProgressing).Message)

	running := aClaim(revisionOf("a"), importing(v1alpha1.PhaseImporting, 1))
	running.imp.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Reason: "Importing", Message: "1 MiB of 7 MiB"}}
	p = decide(worldOf(revisionOf("a"), running))
	require.Equal(t, messageProgressing, conditionOf(p.cron, cdiv1.DataImportCronProgressing).Message, "progress is not worth a write")
}

func TestRecord(t *testing.T) {
	a := revisionOf("a")
	good := aClaim(a, goodSince(time.Hour))
	p := decide(worldOf(a, good).pointed(good))
	named := &cdiv1.DataVolumeSourcePVC{Namespace: "golden-images", Name: good.Name}
	require.Equal(t, named, p.cron.Status.LastImportedPVC)
	require.Equal(t, []cdiv1.ImportStatus{{DataVolumeName: good.Name, Digest: a.Digest}}, p.cron.Status.CurrentImports)
	require.Equal(t, metav1.NewTime(start()), *p.cron.Status.LastImportTimestamp)
	require.Equal(t, cdiv1.DataImportCronSourceFormatPvc, *p.cron.Status.SourceFormat)
	require.Equal(t, a.String(), p.cron.Annotations[golden.AnnotationImported])
}

// TestUsesAreOrdered has clocks that differ, go back or were lied about.
func TestUsesAreOrdered(t *testing.T) {
	for use, want := range map[string]time.Time{
		start().Add(-time.Hour).Format(time.RFC3339Nano):       start(),
		start().Add(30 * time.Second).Format(time.RFC3339Nano): start().Add(30 * time.Second).Add(time.Nanosecond),
		start().Add(2 * time.Minute).Format(time.RFC3339Nano):  start(),
		"9999-12-31T23:59:59.999999999Z":                       start(),
		"soon":                                                 start(),
	} {
		other := aClaim(revisionOf("a"), goodSince(0))
		other.Annotations[golden.AnnotationLastUseTime] = use
		p := decide(worldOf(revisionOf("b"), other, aClaim(revisionOf("b"), filled("sha256:x"))))
		require.Equal(t, "verify "+nameOf("b"), p.steps[0].String())
		at, err := time.Parse(time.RFC3339Nano, p.steps[0].claim.Annotations[golden.AnnotationLastUseTime])
		require.NoError(t, err)
		require.Equal(t, want, at, use)
	}
}

func TestRetryAfter(t *testing.T) {
	for n, want := range map[int]time.Duration{
		0: time.Minute, 1: time.Minute, 2: 2 * time.Minute, 3: 4 * time.Minute, 6: 32 * time.Minute, 7: time.Hour, 1 << 40: time.Hour,
	} {
		require.Equal(t, want, retryAfter(n), "failure %d", n)
	}
}

func TestFailuresSurviveTheirAnnotation(t *testing.T) {
	c := aClaim(revisionOf("a"), failing("NotFound", 0), counted(4))
	require.Equal(t, 4, failuresOf(c).Count)
	for _, text := range []string{"", "x", `{"count":-1}`, `{"count":"many"}`} {
		c.Annotations[annotationFailures] = text
		require.Equal(t, failures{}, failuresOf(c), text)
	}
}
