package poller

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func digestOfPin(w *world) string {
	return golden.ValidatorDigest("https://images.example.org/fedora.qcow2", &w.site.pin)
}

func TestFirstPollFindsTheSource(t *testing.T) {
	w := newWorld(t, fileCron())
	again := w.look()
	require.Equal(t, 10*time.Minute, again, "a look in between sees that the clock was set")
	require.Equal(t, 1, w.writes, "one patch")
	require.Equal(t, 1, w.site.polls())
	require.Zero(t, w.site.files[0].Known, "nothing is imported yet")

	cron := w.cron()
	require.Equal(t, []string{finalizer}, cron.Finalizers, "in the same write")
	require.Equal(t, digestOfPin(w), cron.Annotations[golden.AnnotationDesiredDigest])
	require.Equal(t, &golden.Revision{
		Digest: digestOfPin(w), Pin: &w.site.pin,
		Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example.org/fedora.qcow2"}},
	}, w.polled())
	require.Equal(t, "2026-11-21T11:30:00Z", cron.Annotations[golden.AnnotationLastCronTime])
	require.Equal(t, nextSlot(t, cron, "2026-11-21T11:30:00Z").Format(time.RFC3339), cron.Annotations[golden.AnnotationNextCronTime])
	require.Equal(t, "2026-11-21T11:30:00Z", cron.Status.LastExecutionTimestamp.UTC().Format(time.RFC3339))
	w.requireCondition(corev1.ConditionTrue, reasonFound, digestOfPin(w)[:19])
	require.Empty(t, w.told())
	value, ok := w.metric("gild_poll_last_success_timestamp_seconds", "fedora", "golden")
	require.True(t, ok)
	require.Equal(t, float64(w.clock.Now().Unix()), value)

	require.Equal(t, again, w.look(), "nothing is due")
	require.Equal(t, 1, w.site.polls())
}

func TestNothingIsWrittenWhileNothingChanges(t *testing.T) {
	cron := fileCron()
	cron.Spec.Schedule = "* * * * *"
	w := newWorld(t, cron)
	w.look()
	w.importPolled()
	w.writes = 0
	w.pass(2 * time.Hour)
	require.InDelta(t, 121, w.site.polls(), 1, "polled each minute")
	require.Equal(t, 1, w.site.modified, "all but the first are answered by 304")
	every := quietOf(cron).Truncate(time.Minute) + time.Minute
	require.InDelta(t, 2*time.Hour/every, w.writes, 1, "and written down each ten to fifteen minutes")
	w.requireCondition(corev1.ConditionTrue, reasonNotModified)
	require.WithinDuration(t, w.clock.Now(), timeIn(w.cron(), golden.AnnotationLastCronTime), every+time.Minute)
	value, ok := w.metric("gild_polls_total", "not_modified")
	require.True(t, ok)
	require.InDelta(t, 120, value, 1)

	polls := w.site.polls()
	w.restart()
	w.look()
	require.LessOrEqual(t, w.site.polls(), polls+1, "a restart polls once more at most")
}

func TestWritesAreSpread(t *testing.T) {
	const crons, minutes = 1000, 5
	perMinute := map[time.Duration]int{}
	for i := range crons {
		cron := fileCron()
		cron.UID = types.UID(fmt.Sprintf("%08x-5f0c-4b86-9b5e-0d6c4e1f7a20", i))
		perMinute[quietOf(cron).Truncate(time.Minute)]++
	}
	require.Len(t, perMinute, minutes)
	for minute, n := range perMinute {
		require.GreaterOrEqual(t, minute, 10*time.Minute)
		require.InDelta(t, crons/minutes, n, crons/minutes/4)
	}
}

func TestChangedSource(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	first := w.desired()
	w.importPolled()
	w.site.pin = v1alpha1.Pin{ETag: `"b"`, LastModified: "Sat, 21 Nov 2026 11:45:00 GMT", Length: 9}
	w.pass(time.Hour)
	require.Equal(t, 2, w.site.polls())
	require.Equal(t, `"a"`, w.site.files[1].Known.ETag)
	require.Equal(t, "Fri, 20 Nov 2026 10:00:00 GMT", w.site.files[1].Known.LastModified)
	require.Equal(t, digestOfPin(w), w.desired())
	require.NotEqual(t, first, w.desired())
	require.Equal(t, &w.site.pin, w.polled().Pin)
	w.requireCondition(corev1.ConditionTrue, reasonChanged, w.desired()[:19], first[:19])
}

// TestValidatorsAdvanceOnlyWithAnImport is row L4: as long as the import of an update fails, requests
// carry the validators of the last good one, and the update stays wanted.
func TestValidatorsAdvanceOnlyWithAnImport(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.importPolled()
	w.site.pin.ETag = `"b"`
	for range 5 {
		w.pass(time.Hour)
		require.Equal(t, `"a"`, w.site.files[len(w.site.files)-1].Known.ETag)
		require.Equal(t, digestOfPin(w), w.desired())
	}
	w.requireCondition(corev1.ConditionTrue, reasonNotModified, w.desired()[:19])
	w.importPolled()
	w.pass(time.Hour)
	require.Equal(t, `"b"`, w.site.files[len(w.site.files)-1].Known.ETag)
}

// TestSourceGoesBack is row L7: A is imported, B found and not imported, A comes back.
func TestSourceGoesBack(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.importPolled()
	first, firstPin := w.desired(), w.site.pin
	w.site.pin.ETag = `"b"`
	w.pass(time.Hour)
	require.NotEqual(t, first, w.desired())
	w.site.pin = firstPin
	w.pass(time.Hour)
	require.Equal(t, first, w.desired(), "by the 304 alone")
	require.Equal(t, first, w.polled().Digest)
	require.Equal(t, 2, w.site.modified)
	w.requireCondition(corev1.ConditionTrue, reasonChanged)

	w.site.pin.ETag = `"b"`
	w.pass(time.Hour)
	w.importPolled()
	w.site.pin = firstPin
	w.pass(time.Hour)
	require.Equal(t, first, w.desired(), "the same state has the same name after an import of B, too")
}

func TestNoValidator(t *testing.T) {
	w := newWorld(t, fileCron())
	w.site.pin = v1alpha1.Pin{Length: 7}
	w.look()
	w.requireCondition(corev1.ConditionFalse, reasonNoValidator, golden.AnnotationChecksumURL)
	require.Empty(t, w.desired())

	w.site.published = otherDigest
	w.edit(func(cron *cdiv1.DataImportCron) {
		cron.Annotations[golden.AnnotationChecksumURL] = "https://images.example.org/SHA256SUMS"
	})
	w.look()
	require.Equal(t, otherDigest, w.desired())
	require.Equal(t, otherDigest, w.polled().Checksum)
	w.importPolled()
	w.pass(3 * time.Hour)
	w.requireCondition(corev1.ConditionTrue, reasonNotModified)
	require.Len(t, w.site.sums, 4, "asked each time: nothing else tells")

	w.site.published = oneDigest
	w.pass(time.Hour)
	require.Equal(t, oneDigest, w.desired())
	w.requireCondition(corev1.ConditionTrue, reasonChanged)
}

// TestChecksumFileAfterTheFile: a mirror that has the new file before the new checksums is seen to
// have changed once it has both.
func TestChecksumFileAfterTheFile(t *testing.T) {
	cron := fileCron()
	cron.Annotations[golden.AnnotationChecksumURL] = "https://images.example.org/SHA256SUMS"
	w := newWorld(t, cron)
	w.site.published = oneDigest
	w.look()
	require.Equal(t, oneDigest, w.desired())
	w.importPolled()
	w.pass(2 * time.Hour)
	require.Len(t, w.site.sums, 1, "304 says enough")

	w.site.pin.ETag = `"b"`
	w.pass(2 * time.Hour)
	require.Equal(t, oneDigest, w.desired(), "the publisher says that these are the same bytes")
	w.site.published = otherDigest
	w.pass(time.Hour)
	require.Equal(t, otherDigest, w.desired())
}

func TestFailingPolls(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.importPolled()
	before := w.cron()
	w.site.err = &answer{reason: "ServerError", text: "the source answers 503"}
	w.pass(31 * time.Minute) // the slot, then one minute
	w.requireCondition(corev1.ConditionFalse, "ServerError", "the source answers 503")
	require.Len(t, w.told(), 1, "an event on the first failure")
	polls := w.site.polls()
	w.pass(29 * time.Minute)
	require.Equal(t, polls+4, w.site.polls(), "after 1, 2, 4 and 8 minutes, with the first")
	require.Empty(t, w.told())
	now := w.cron()
	for _, annotation := range []string{golden.AnnotationDesiredDigest, golden.AnnotationPolled, golden.AnnotationImported} {
		require.Equal(t, before.Annotations[annotation], now.Annotations[annotation])
	}
	w.requireCondition(corev1.ConditionFalse, "ServerError", "5 polls in a row have failed", "the next one is at "+now.Annotations[golden.AnnotationNextCronTime])
	value, ok := w.metric("gild_poll_failures", "fedora", "golden")
	require.True(t, ok)
	require.Equal(t, 5.0, value)
	success, ok := w.metric("gild_poll_last_success_timestamp_seconds", "fedora", "golden")
	require.True(t, ok)
	require.Equal(t, float64(timeIn(before, golden.AnnotationLastCronTime).Unix()), success)

	w.site.err = nil
	w.pass(time.Hour)
	w.requireCondition(corev1.ConditionTrue, reasonNotModified)
	events := w.told()
	require.Len(t, events, 1)
	require.Contains(t, events[0], "Normal "+eventPollRecovered)
	value, _ = w.metric("gild_poll_failures", "fedora", "golden")
	require.Zero(t, value)
}

func TestPermanentFailureWaits(t *testing.T) {
	for _, reason := range permanent() {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t, fileCron())
			w.site.err = &answer{reason: reason, text: "no"}
			w.look()
			w.pass(25 * time.Minute)
			require.Equal(t, 1, w.site.polls())
			w.requireCondition(corev1.ConditionFalse, reason, "the poll has failed once")
			w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationPollNow] = "1" })
			w.look()
			require.Equal(t, 2, w.site.polls())
			w.edit(func(cron *cdiv1.DataImportCron) {
				cron.Spec.Template.Spec.Source.HTTP.URL = "https://images.example.org/39/fedora.qcow2"
			})
			w.look()
			require.Equal(t, 3, w.site.polls())
			w.requireCondition(corev1.ConditionFalse, reason, "3 polls in a row have failed")
			w.pass(time.Hour)
			require.Equal(t, 4, w.site.polls(), "the schedule goes on")
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	w := newWorld(t, fileCron())
	w.site.err = &answer{reason: "TooManyRequests", text: "429", retryAfter: 3 * time.Hour}
	w.look()
	w.restart()
	w.pass(3*time.Hour - time.Second)
	require.Equal(t, 1, w.site.polls())
	w.requireCondition(corev1.ConditionFalse, "TooManyRequests", "2026-11-21T14:30:00Z")
	w.site.err = nil
	w.pass(time.Second)
	require.Equal(t, 2, w.site.polls())
}

func TestMissingSecretIsWaitedFor(t *testing.T) {
	cron := fileCron()
	cron.Spec.Template.Spec.Source.HTTP.SecretRef = "login"
	cron.Spec.Template.Spec.Source.HTTP.CertConfigMap = "certs"
	w := newWorld(t, cron)
	w.look()
	w.requireCondition(corev1.ConditionFalse, "SecretNotFound", "Secret login does not exist in namespace golden: create it")
	require.Zero(t, w.site.polls())
	require.NoError(t, w.store.Create(t.Context(), secretOf("login", map[string]string{"username": "reader", "password": "canary"})))
	w.pass(time.Minute)
	w.requireCondition(corev1.ConditionFalse, "ConfigMapNotFound", "ConfigMap certs")
	require.NoError(t, w.store.Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "certs"}, Data: map[string]string{"ca.pem": "pem"}}))
	w.pass(2 * time.Minute)
	w.requireCondition(corev1.ConditionTrue, reasonFound)
	require.Equal(t, Access{
		Secret: map[string][]byte{"username": []byte("reader"), "password": []byte("canary")}, CAs: map[string][]byte{"ca.pem": []byte("pem")},
	}, w.site.files[0].Access)
	require.Equal(t, "login", w.polled().Source.HTTP.SecretRef)
	require.NotContains(t, fmt.Sprintf("%+v", w.cron()), "canary")
}

func TestScheduleEdited(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = "0 20 * * *" })
	w.look()
	cron := w.cron()
	require.Equal(t, nextSlot(t, cron, "2026-11-21T11:30:00Z").Format(time.RFC3339), cron.Annotations[golden.AnnotationNextCronTime])
	w.pass(8 * time.Hour)
	require.Equal(t, 1, w.site.polls())
	w.pass(time.Hour)
	require.Equal(t, 2, w.site.polls())

	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = "0 99 * * *" })
	w.look()
	w.requireCondition(corev1.ConditionFalse, reasonIllegalSchedule, "0 99 * * *")
	require.Len(t, w.told(), 1)
	w.pass(48 * time.Hour)
	require.Equal(t, 2, w.site.polls())
	require.Empty(t, w.told(), "said once")
	require.NotEmpty(t, w.desired())

	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = "@hourly" })
	w.look()
	w.requireCondition(corev1.ConditionTrue, reasonNotModified)
}

func TestByHand(t *testing.T) {
	cron := fileCron()
	cron.Spec.Schedule = ""
	w := newWorld(t, cron)
	require.Zero(t, w.look())
	require.Zero(t, w.site.polls())
	require.Zero(t, w.writes)

	w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest })
	require.Zero(t, w.look())
	require.Equal(t, 1, w.site.polls())
	require.Equal(t, &golden.Revision{
		Digest: otherDigest, Pin: &w.site.pin,
		Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example.org/fedora.qcow2"}},
	}, w.polled())
	require.Equal(t, otherDigest, w.desired())
	w.pass(48 * time.Hour)
	require.Equal(t, 1, w.site.polls())

	w.importPolled()
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationPollNow] = "1" })
	w.look()
	require.Equal(t, otherDigest, w.desired(), "the same state keeps the name that it was given")
	w.requireCondition(corev1.ConditionTrue, reasonNotModified)

	w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationDesiredDigest] = "latest" })
	require.Zero(t, w.look())
	w.requireCondition(corev1.ConditionFalse, reasonIllegalDigest, "latest", "poll-now")
	require.Equal(t, "latest", w.desired(), "what was written by hand stays")
}

func TestByHandIsRetried(t *testing.T) {
	cron := fileCron()
	cron.Spec.Schedule = ""
	cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
	w := newWorld(t, cron)
	w.site.err = &answer{reason: "ConnectionFailed", text: "connection refused"}
	w.look()
	w.requireCondition(corev1.ConditionFalse, "ConnectionFailed", "2026-11-21T11:31:00Z")
	require.Equal(t, "2026-11-21T11:31:00Z", w.cron().Annotations[golden.AnnotationNextCronTime])
	w.site.err = nil
	w.pass(time.Minute)
	require.Equal(t, otherDigest, w.polled().Digest)
	require.NotContains(t, w.cron().Annotations, golden.AnnotationNextCronTime)
}

// TestOneCatchUp is row L6: three days without a poller are made up for by one poll.
func TestOneCatchUp(t *testing.T) {
	cron := fileCron()
	cron.Spec.Schedule = "* * * * *"
	w := newWorld(t, cron)
	w.look()
	w.clock.Step(72 * time.Hour)
	w.restart()
	w.look()
	w.look()
	require.Equal(t, 2, w.site.polls())
	require.True(t, timeIn(w.cron(), golden.AnnotationNextCronTime).After(w.clock.Now()))
}

func TestClockIsSetBack(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.clock.SetTime(w.clock.Now().Add(-72 * time.Hour))
	w.pass(24 * time.Hour)
	require.Equal(t, 25, w.site.polls(), "polled each hour")
}

// TestStaleCache is row C3: a view from before our own write leads to no second poll.
func TestStaleCache(t *testing.T) {
	w := newWorld(t, fileCron())
	old := w.cron()
	w.look()
	w.view = func(cron *cdiv1.DataImportCron) { old.DeepCopyInto(cron) }
	w.pass(time.Minute)
	require.Equal(t, 1, w.site.polls())
	require.Equal(t, 1, w.writes)
	w.view = nil
	w.pass(time.Minute)
	require.Equal(t, 1, w.site.polls())
}

// TestRestoredCluster: a cluster that is set back to an earlier state, whose resource versions are older
// than our last write, is believed after a while.
func TestRestoredCluster(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.importPolled()
	w.site.pin.ETag = `"b"`
	w.poller.memory.crons[cronKey].written = "1000000"
	w.pass(time.Minute)
	require.Equal(t, 1, w.site.polls())
	w.pass(time.Hour)
	require.Equal(t, 2, w.site.polls())
	require.Equal(t, digestOfPin(w), w.desired())
}

// TestRollerWritesMeanwhile: a conflict with the roller loses neither write.
func TestRollerWritesMeanwhile(t *testing.T) {
	w := newWorld(t, fileCron())
	w.site.before = func() {
		w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations["roller"] = "was here" })
	}
	old := w.cron()
	w.view = func(cron *cdiv1.DataImportCron) {
		if w.writes == 0 && cron.Annotations["roller"] != "" { // the cache catches up after the first conflict
			old.DeepCopyInto(cron)
		}
	}
	w.look()
	require.Equal(t, 1, w.site.polls())
	require.Equal(t, 2, w.writes)
	require.Equal(t, "was here", w.cron().Annotations["roller"])
	require.Equal(t, digestOfPin(w), w.desired())
}

func TestSourceEditedDuringItsPoll(t *testing.T) {
	w := newWorld(t, fileCron())
	w.site.before = func() {
		w.site.before = nil
		w.edit(func(cron *cdiv1.DataImportCron) {
			cron.Spec.Template.Spec.Source.HTTP.URL = "https://images.example.org/39/fedora.qcow2"
		})
	}
	w.look()
	require.Equal(t, 2, w.site.polls())
	require.Equal(t, 1, w.writes, "what was found at the old place is dropped")
	require.Equal(t, "https://images.example.org/39/fedora.qcow2", w.polled().Source.HTTP.URL)
}

func TestPollNowDuringAPoll(t *testing.T) {
	w := newWorld(t, fileCron())
	w.site.before = func() {
		w.site.before = nil
		w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationPollNow] = "again" })
	}
	w.look()
	require.Equal(t, 2, w.site.polls(), "the answer may be from before the request")
	w.look()
	require.Equal(t, 2, w.site.polls())
}

func TestDeletedCron(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	require.NoError(t, w.store.Delete(t.Context(), w.cron()))
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Finalizers = nil }) // the roller is done with it
	require.Zero(t, w.look())
	for _, name := range []string{"gild_poll_failures", "gild_poll_last_success_timestamp_seconds"} {
		_, ok := w.metric(name, "fedora", "golden")
		require.False(t, ok, "%s is left behind", name)
	}
	require.Empty(t, w.poller.memory.crons)

	again := fileCron()
	again.ResourceVersion, again.UID = "", "another-uid"
	require.NoError(t, w.store.Create(t.Context(), again))
	w.look()
	require.Equal(t, 2, w.site.polls(), "another cron of the same name is polled")
}

func TestDeletedDuringItsPoll(t *testing.T) {
	w := newWorld(t, fileCron())
	w.site.before = func() {
		require.NoError(t, w.store.Delete(t.Context(), w.cron()))
		_, err := w.poller.Reconcile(t.Context(), ctrl.Request{NamespacedName: cronKey})
		require.NoError(t, err)
	}
	require.Zero(t, w.look())
	require.Zero(t, w.writes)
	require.Empty(t, w.poller.memory.crons)
}

// TestCrashes are rows C1 and C2: whatever happens to a write, the story ends the same, and nothing is
// polled twice but after a restart.
func TestCrashes(t *testing.T) {
	crashPoints(t, func(t *testing.T, w *world) {
		w.look()
		require.Equal(t, digestOfPin(w), w.desired())
		w.importPolled()
		w.site.pin.ETag = `"b"`
		w.pass(time.Hour)
		require.Equal(t, digestOfPin(w), w.desired())
		w.site.err = &answer{reason: "ServerError", text: "503"}
		w.pass(time.Hour)
		require.GreaterOrEqual(t, readState(w.cron()).Failures, 4)
		w.site.err = nil
		w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationPollNow] = "1" })
		w.look()
		w.requireCondition(corev1.ConditionTrue, reasonNotModified)
		w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = "0 20 * * *" })
		w.look()
		cron := w.cron()
		require.Zero(t, readState(cron).Failures)
		require.Equal(t, nextSlot(t, cron, w.clock.Now().Format(time.RFC3339)).Format(time.RFC3339), cron.Annotations[golden.AnnotationNextCronTime])
		require.Equal(t, digestOfPin(w), w.polled().Digest)
	}, func() []client.Object { return []client.Object{fileCron()} })
}

// TestClockIsSetBackAfterARestart: what the annotation says is years away then, and nothing is written.
func TestClockIsSetBackAfterARestart(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.restart()
	w.clock.SetTime(w.clock.Now().Add(-72 * time.Hour))
	w.pass(90 * time.Minute)
	require.Equal(t, 2, w.site.polls())
}
