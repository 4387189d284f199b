package populator

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func TestResolveCron(t *testing.T) {
	elsewhere := revisionA()
	elsewhere.Source.HTTP = &v1alpha1.HTTPSource{URL: "https://evil.example.org/", SecretRef: "not-yours"}
	copied := &golden.Revision{Digest: "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", Claim: &golden.Claim{Namespace: "base", Name: "base", UID: "7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"}}
	copyOfBase := &v1alpha1.CopySource{Kind: v1alpha1.CopyOfClaim, Namespace: "base", Name: "base", UID: "7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", ServiceAccountName: "cloner"}
	broken := cronClaim()
	broken.Labels = map[string]string{golden.LabelCron: sourceName}
	broken.Annotations = map[string]string{golden.AnnotationRevision: "{"}
	ofOther := goldenClaim(revisionB())
	ofOther.Labels[golden.LabelCron] = "fedora"
	heldA := heldClaim(revisionA())
	notVerified := heldClaim(revisionB())
	notVerified.Name, notVerified.UID = "debian-12-b", "not-verified"
	delete(notVerified.Annotations, golden.AnnotationVerified)
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		cron  *cdiv1.DataImportCron
		want  *golden.Revision // nil when it waits
		why   string           // it waits
		copy  *v1alpha1.CopySource
	}{
		"golden, polled":             {goldenClaim(revisionB()), testCron(revisionB(), revisionA()), revisionB(), "", nil},
		"golden, imported":           {goldenClaim(revisionA()), testCron(revisionB(), revisionA()), revisionA(), "", nil},
		"golden, first":              {goldenClaim(revisionA()), testCron(revisionA(), nil), revisionA(), "", nil},
		"golden, of neither":         {goldenClaim(revisionA()), testCron(revisionB(), nil), nil, reasonRevisionUnknown, nil},
		"golden, unreadable":         {broken, testCron(revisionB(), revisionA()), nil, reasonRevisionUnknown, nil},
		"golden, with another URL":   {goldenClaim(elsewhere), testCron(revisionA(), nil), revisionA(), "", nil},
		"golden of another cron":     {ofOther, testCron(revisionB(), revisionA()), revisionA(), "", copyOfClaim(heldA)},
		"golden, copy":               {goldenClaim(copied), testCron(copied, nil), copied, "", copyOfBase},
		"any":                        {cronClaim(), testCron(revisionB(), revisionA()), revisionA(), "", copyOfClaim(heldA)},
		"any, golden claim gone":     {cronClaim(), testCron(nil, revisionB()), revisionB(), "", nil},
		"any, nothing imported":      {cronClaim(), testCron(revisionB(), nil), nil, reasonNothingImported, nil},
		"any, copy":                  {cronClaim(), testCron(copied, copied), copied, "", copyOfBase},
		"any, unreadable annotation": {cronClaim(), testCron(nil, &golden.Revision{}), nil, reasonRevisionUnknown, nil},
	} {
		t.Run(name, func(t *testing.T) {
			spec, waiting, err := resolveCron(t.Context(), seen(t, heldA, notVerified), test.claim, test.cron)
			require.NoError(t, err)
			if test.want == nil {
				require.Nil(t, spec)
				require.Equal(t, test.why, waiting.reason)
				return
			}
			require.Nil(t, waiting)
			require.Equal(t, &v1alpha1.VMDiskImportSpec{
				ImageRef:     v1alpha1.ImageReference{Kind: golden.CronKind, Name: sourceName, UID: "cron-uid", Revision: test.want.Digest},
				ImageSpec:    v1alpha1.ImageSpec{Source: test.want.Source},
				CopyOf:       test.copy,
				Pin:          test.want.Pin,
				RecordDigest: isGolden(test.claim, test.cron),
			}, spec)
		})
	}
}

// annotate sets a revision of the cron in the world.
func (w *world) annotate(annotation string, revision *golden.Revision) {
	w.t.Helper()
	cron := &cdiv1.DataImportCron{}
	require.True(w.t, w.find(cron, "vms", sourceName))
	metav1.SetMetaDataAnnotation(&cron.ObjectMeta, annotation, revision.String())
	require.NoError(w.t, w.store.Update(w.t.Context(), cron))
}

func (w *world) ticks(n int) {
	for range n {
		w.tick()
	}
}

// told reports whether one of the events so far has all the words.
func (w *world) told(words ...string) bool {
	found := false
	for len(w.events.Events) > 0 {
		text, all := <-w.events.Events, true
		for _, word := range words {
			all = all && strings.Contains(text, word)
		}
		found = found || all
	}
	return found
}

func TestClaimWaitsForTheFirstRevision(t *testing.T) {
	w := newWorld(t, testCron(revisionA(), nil), cronClaim(), fastClass())
	w.ticks(5)
	require.Nil(t, w.findImport())
	require.True(t, w.told(reasonNothingImported, "DataImportCron debian-12"))
	w.annotate(golden.AnnotationImported, revisionA())
	w.settle(w.bound)
	require.Equal(t, revisionA().Digest, w.findImport().Spec.ImageRef.Revision)
	require.True(t, w.told(eventStarted, "importing DataImportCron debian-12, revision "+revisionA().Digest))
	w.ticks(4)
	w.requireNothingLeft()
}

func TestClaimWaitsForItsCron(t *testing.T) {
	w := newWorld(t, goldenClaim(revisionA()), fastClass())
	w.ticks(5)
	require.True(t, w.told("DataImportCronNotFound", "create it"))
	require.NoError(t, w.store.Create(t.Context(), testCron(revisionA(), nil)))
	w.settle(w.bound)
	require.True(t, w.findImport().Spec.RecordDigest)
}

// TestMovedSource: a pinned source that has moved on fails the import. A claim of a user gets the next revision
// that is imported; a golden claim is for one revision only, and starts anew when its import is deleted.
func TestMovedSource(t *testing.T) {
	moved := func(int32) (int32, string) { return 11, `{"reason":"SourceChanged","message":"its ETag is \"b\""}` }
	setup := func(t *testing.T, claim *corev1.PersistentVolumeClaim) *world {
		w := newWorld(t, testCron(revisionA(), revisionA()), claim, fastClass())
		good := w.end
		w.end = moved
		w.settle(w.phase(v1alpha1.PhaseFailed))
		require.Contains(t, w.findImport().Status.LastFailure.Message, "the next poll finds its new revision")
		w.annotate(golden.AnnotationPolled, revisionB())
		w.ticks(5)
		require.True(t, w.phase(v1alpha1.PhaseFailed)(), "what was polled is not yet imported")
		w.requireNothingLeft()
		w.end = good
		return w
	}
	t.Run("claim of a user", func(t *testing.T) {
		w := setup(t, cronClaim())
		w.annotate(golden.AnnotationImported, revisionB())
		w.settle(w.bound)
		require.Equal(t, revisionB().Digest, w.findImport().Spec.ImageRef.Revision)
		require.True(t, w.told(eventRestarted, "another revision"))
	})
	t.Run("golden claim", func(t *testing.T) {
		w := setup(t, goldenClaim(revisionA()))
		first := w.findImport().UID
		w.ticks(5)
		require.Equal(t, first, w.findImport().UID)
		require.NoError(t, w.store.Delete(t.Context(), w.findImport()))
		w.settle(w.bound)
		require.Equal(t, revisionA().Digest, w.findImport().Spec.ImageRef.Revision, "the one that it was made for")
	})
}

// TestGoldenClaimOfAPastRevision: nothing is imported that the cron does not want, and what has begun ends.
func TestGoldenClaimOfAPastRevision(t *testing.T) {
	w := newWorld(t, testCron(revisionA(), nil), goldenClaim(revisionA()), fastClass())
	w.settle(func() bool { return w.running == 1 })
	w.annotate(golden.AnnotationPolled, revisionB())
	w.settle(w.bound)

	late := newWorld(t, testCron(revisionB(), nil), goldenClaim(revisionA()), fastClass())
	late.ticks(5)
	require.Nil(t, late.findImport())
	require.True(t, late.told(reasonRevisionUnknown, revisionA().Digest))
}

func TestPresence(t *testing.T) {
	cron := func(w *world) *kind { k, _ := w.kinds.of(cronClaim()); return k }
	t.Run("not known yet", func(t *testing.T) {
		w := newWorld(t, testCron(revisionA(), revisionA()), cronClaim(), fastClass())
		cron(w).setPresence(presenceUnknown)
		result, err := w.claims.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(cronClaim())})
		require.NoError(t, err)
		require.NotZero(t, result.RequeueAfter)
		require.Nil(t, w.findImport())
		cron(w).setPresence(presenceOurs)
		w.settle(w.bound)
	})
	t.Run("absent", func(t *testing.T) {
		w := newWorld(t, testImage(), cronClaim(), fastClass())
		cron(w).setPresence(presenceAbsent)
		w.ticks(5)
		require.True(t, w.told("DataImportCronNotFound", "deploy/cdi"))
	})
	t.Run("foreign", func(t *testing.T) {
		claim := cronClaim()
		w := newWorld(t, testCron(revisionA(), revisionA()), claim, fastClass())
		cron(w).setPresence(presenceForeign)
		w.ticks(5)
		w.bind(w.findClaim(), "pv-of-cdi")
		w.ticks(5)
		require.Zero(t, w.writes)
		require.Empty(t, w.events.Events)
	})
	t.Run("foreign beside a VMDiskImage", func(t *testing.T) {
		w := newWorld(t, testImage(), testClaim(), fastClass())
		cron(w).setPresence(presenceForeign)
		w.settle(w.bound)
	})
}

func TestPollsDoNotWakeClaims(t *testing.T) {
	matters := revisionChanged()
	was := testCron(revisionA(), nil)
	for name, test := range map[string]struct {
		change func(*cdiv1.DataImportCron)
		want   bool
	}{
		"polled in vain": {func(c *cdiv1.DataImportCron) { c.Annotations[golden.AnnotationLastCronTime] = "now" }, false},
		"polled":         {func(c *cdiv1.DataImportCron) { c.Annotations[golden.AnnotationPolled] = revisionB().String() }, true},
		"imported":       {func(c *cdiv1.DataImportCron) { c.Annotations[golden.AnnotationImported] = revisionA().String() }, true},
		"made again":     {func(c *cdiv1.DataImportCron) { c.UID = "another" }, true},
	} {
		now := was.DeepCopy()
		test.change(now)
		require.Equal(t, test.want, matters.Update(event.UpdateEvent{ObjectOld: was, ObjectNew: now}), name)
	}
}
