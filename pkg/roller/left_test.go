package roller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

func uidOf(c string) types.UID { return types.UID("7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d1" + c) }

// leftCron is a cron as CDI leaves it, which has imported a last.
func leftCron() *cdiv1.DataImportCron {
	const c = "a"
	cron := testCron()
	metav1.SetMetaDataAnnotation(&cron.ObjectMeta, golden.AnnotationDesiredDigest, digestOf(c))
	metav1.SetMetaDataAnnotation(&cron.ObjectMeta, "cdi.kubevirt.io/storage.import.storageClass", "fast")
	cron.Status.LastImportedPVC = &cdiv1.DataVolumeSourcePVC{Namespace: namespace, Name: nameOf(c)}
	cron.Status.CurrentImports = []cdiv1.ImportStatus{{DataVolumeName: nameOf(c), Digest: digestOf(c)}}
	cron.Status.LastImportTimestamp = ptr.To(metav1.NewTime(start().Add(-24 * time.Hour)))
	cron.Status.SourceFormat = ptr.To(cdiv1.DataImportCronSourceFormatPvc)
	setCondition(cron, cdiv1.DataImportCronProgressing, corev1.ConditionFalse, reasonNoImport, messageNoImport, start().Add(-24*time.Hour))
	setCondition(cron, cdiv1.DataImportCronUpToDate, corev1.ConditionTrue, reasonUpToDate, messageUpToDate, start().Add(-24*time.Hour))
	return cron
}

// leftClaim is a golden claim that CDI has filled, last used some time ago.
func leftClaim(c string, ago time.Duration, changes ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: nameOf(c), UID: uidOf(c), CreationTimestamp: metav1.NewTime(start().Add(-ago)),
			Labels: map[string]string{"app": "containerized-data-importer", golden.LabelCron: "fedora-cron", annotationOfOthers: "yes"},
			Annotations: map[string]string{
				golden.AnnotationPodPhase: "Succeeded", annotationOfOthers: "yes", golden.AnnotationBindImmediately: "true",
				golden.AnnotationLastUseTime: start().Add(-ago).Format(time.RFC3339Nano),
			},
			Finalizers: []string{"kubernetes.io/pvc-protection"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "cdi.kubevirt.io/v1beta1", Kind: "DataVolume", Name: nameOf(c),
				UID: uidOf(c) + "-dv", Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true)}},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: ptr.To("fast"), VolumeName: "pv-" + string(uidOf(c)),
			Resources:     corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("5Gi")}},
			DataSourceRef: &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: "VolumeImportSource", Name: "volume-import-source-" + string(uidOf(c))},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
	}
	for _, change := range changes {
		change(claim)
	}
	return claim
}

// leftVolume is the DataVolume that CDI has made for it.
func leftVolume(c string) *cdiv1.DataVolume {
	return &cdiv1.DataVolume{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: nameOf(c), UID: uidOf(c) + "-dv",
		Labels: map[string]string{golden.LabelCron: "fedora-cron"}}}
}

func leftSource(c string) *cdiv1.DataSource {
	return &cdiv1.DataSource{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fedora", Labels: map[string]string{golden.LabelCron: "fedora-cron", "app.kubernetes.io/managed-by": "cdi-controller"}},
		Spec:       cdiv1.DataSourceSpec{Source: cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: namespace, Name: nameOf(c)}}},
	}
}

// leftByCDI is all of a cron that has imported 8, 9 and then a.
func leftByCDI() []client.Object {
	return []client.Object{
		leftCron(), leftSource("a"), leftVolume("a"), leftClaim("a", time.Hour), leftVolume("9"), leftClaim("9", 2*time.Hour),
		leftClaim("8", 3*time.Hour, func(claim *corev1.PersistentVolumeClaim) { claim.OwnerReferences = nil }),
		testClass("fast", claimshape.AnnotationDefault), testClass("slow"),
	}
}

// completed has the poller take the digest that CDI has written.
func completed(c *cluster) { c.want(revisionOf("a")) }

// byIndex is the image for one platform that an index leads to.
func byIndex(c, index string) *golden.Revision {
	revision := revisionOf(c)
	revision.Index = digestOf(index)
	return revision
}

// leftStories begin with what CDI has left. The first meets all faults.
func leftStories() []story {
	return []story{
		{name: "left by CDI, and then rolled", left: true, tell: func(c *cluster) {
			completed(c)
			c.run(3)
			c.want(byIndex("b", "a"))
			c.settle(c.holds(revisionOf("b")))
			c.want(byIndex("c", "d"))
		}, holds: "c", keep: 2, want: []string{nameOf("a"), nameOf("c")}, made: 1},
		{name: "left by CDI, by its index", left: true, tell: func(c *cluster) {
			completed(c)
			c.run(3)
			c.want(byIndex("b", "a"))
		}, holds: "b", keep: 3, want: []string{nameOf("8"), nameOf("9"), nameOf("a")}},
		{name: "left by CDI", left: true, tell: completed, holds: "a", keep: 3, want: []string{nameOf("8"), nameOf("9"), nameOf("a")}},
		{name: "left by CDI before it has imported the newest", left: true, tell: func(c *cluster) { c.want(revisionOf("b")) },
			holds: "b", keep: 3, want: []string{nameOf("9"), nameOf("a"), nameOf("b")}, made: 1},
		{name: "left by CDI, back to an older one", left: true, tell: func(c *cluster) {
			completed(c)
			c.settle(c.holds(revisionOf("a")))
			c.want(byIndex("e", "9"))
		}, holds: "e", keep: 2, want: []string{nameOf("9"), nameOf("a")}},
	}
}

func TestLeftByCDI(t *testing.T) {
	for _, s := range leftStories() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			before := map[string]*corev1.PersistentVolumeClaim{}
			c := s.run(t, func(c *cluster) {
				for _, claim := range c.claims() {
					before[claim.Name] = claim.DeepCopy()
				}
			})
			require.Equal(t, s.made, c.made)
			for _, claim := range c.claims() {
				was := before[claim.Name]
				if was == nil {
					continue
				}
				require.Equal(t, golden.FilledByCDI, claim.Annotations[golden.AnnotationVerified])
				require.Equal(t, was.OwnerReferences, claim.OwnerReferences)
				require.Equal(t, was.Spec, claim.Spec)
				require.Equal(t, was.Labels, claim.Labels)
				require.Equal(t, len(was.OwnerReferences) > 0, c.find(&cdiv1.DataVolume{}, claim.Name))
				for key, value := range was.Annotations {
					if key != golden.AnnotationLastUseTime {
						require.Equal(t, value, claim.Annotations[key], key)
					}
				}
			}
			var volumes cdiv1.DataVolumeList
			require.NoError(t, c.store.List(t.Context(), &volumes))
			for i := range volumes.Items {
				require.Contains(t, s.want, volumes.Items[i].Name, "it goes with its claim")
			}
		})
	}
}

// TestLeftByCDIStaysUpToDate: while the poller has yet to look, and when nothing has changed, what CDI has said of the cron stays.
func TestLeftByCDIStaysUpToDate(t *testing.T) {
	c := newCluster(t, leftByCDI()...)
	status, source := c.cron().Status, c.dataSource()
	c.run(5)
	require.Equal(t, status, c.cron().Status)
	require.Contains(t, c.cron().Finalizers, Finalizer)
	completed(c)
	c.run(20)
	require.Equal(t, status, c.cron().Status)
	require.Equal(t, source.Spec, c.dataSource().Spec)
	require.Equal(t, source.ResourceVersion, c.dataSource().ResourceVersion, "the DataSource is as it was")
	require.Equal(t, revisionOf("a").String(), c.cron().Annotations[golden.AnnotationImported])
	require.Zero(t, c.made)
	require.Empty(t, c.deleted)
	told := c.told()
	require.Len(t, told, 3)
	for _, text := range told {
		require.Contains(t, text, eventAdopted)
	}
	before := c.writes
	c.want(byIndex("b", "a"))
	c.run(20)
	require.Equal(t, before+2, c.writes, "the claim and the cron say which image of the index it is")
	require.Equal(t, byIndex("b", "a").String(), c.claimOf("a").Annotations[golden.AnnotationRevision])
	require.Empty(t, c.told())

	// The same index, and another platform: that is another image.
	c.want(byIndex("f", "a"))
	c.settle(c.holds(revisionOf("f")))
	require.Equal(t, 1, c.made)
}

func (c *cluster) claimOf(digit string) *corev1.PersistentVolumeClaim {
	c.t.Helper()
	claim := &corev1.PersistentVolumeClaim{}
	require.True(c.t, c.find(claim, nameOf(digit)))
	return claim
}

// TestIsLeft: what is no golden claim of CDI's is left alone.
func TestIsLeft(t *testing.T) {
	for name, test := range map[string]struct {
		claim func(*corev1.PersistentVolumeClaim)
		cron  func(*world)
		want  bool
	}{
		"as CDI leaves it":         {want: true},
		"its pod has told nothing": {claim: func(c *corev1.PersistentVolumeClaim) { delete(c.Annotations, golden.AnnotationPodPhase) }, want: true},
		"not by a populator":       {claim: func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSourceRef = nil }, want: true},
		"of a claim":               {claim: func(c *corev1.PersistentVolumeClaim) { c.Name = "fedora-7f0a7f0e-8a5" }, want: true},
		"being filled":             {claim: func(c *corev1.PersistentVolumeClaim) { c.Annotations[golden.AnnotationPodPhase] = "Running" }},
		"not bound":                {claim: func(c *corev1.PersistentVolumeClaim) { c.Status.Phase = corev1.ClaimPending }},
		"going":                    {claim: func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = ptr.To(metav1.NewTime(start())) }},
		"of another name":          {claim: func(c *corev1.PersistentVolumeClaim) { c.Name = "fedora-data" }},
		"of a longer name":         {claim: func(c *corev1.PersistentVolumeClaim) { c.Name += "0" }},
		"of another DataSource":    {claim: func(c *corev1.PersistentVolumeClaim) { c.Name = "debian-aaaaaaaaaaaa" }},
		"filled from a snapshot": {claim: func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSourceRef.APIGroup = ptr.To("snapshot.storage.k8s.io")
		}, want: true},
		"a copy for a machine":         {claim: func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSourceRef.Kind = golden.DataSourceKind }},
		"with a revision":              {claim: func(c *corev1.PersistentVolumeClaim) { c.Annotations[golden.AnnotationRevision] = "{}" }},
		"of a cron without an import":  {cron: func(w *world) { w.cron.Status.LastImportedPVC = nil }},
		"of a cron that is ours since": {cron: func(w *world) { w.imported = revisionOf("a") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, claim := worldOf(revisionOf("a")), leftClaim("a", time.Hour)
			w.cron.Status = leftCron().Status
			if test.claim != nil {
				test.claim(claim)
			}
			if test.cron != nil {
				test.cron(w)
			}
			require.Equal(t, test.want, isLeft(w, claim))
		})
	}
}

// TestLeftByCDIStaysOnItsClass: the default does not move it, the template does.
func TestLeftByCDIStaysOnItsClass(t *testing.T) {
	adopted := leftClaim("a", time.Hour, func(claim *corev1.PersistentVolumeClaim) {
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, golden.AnnotationVerified, golden.FilledByCDI)
	})
	w := worldOf(revisionOf("a"), &goldenClaim{PersistentVolumeClaim: adopted, revision: revisionOf("a")})
	w.class = "slow"
	require.NotNil(t, w.holder())
	w.cron.Spec.Template.Spec.Storage.StorageClassName = ptr.To("slow")
	require.Nil(t, w.holder())
}

// TestLeftInASnapshot: a cron whose DataSource names a snapshot of CDI's is up to date with that.
func TestLeftInASnapshot(t *testing.T) {
	world := func(desired *golden.Revision) *world {
		w := worldOf(desired)
		w.cron.Status = leftCron().Status
		w.cron.Status.SourceFormat = ptr.To(cdiv1.DataImportCronSourceFormatSnapshot)
		w.dataSource = leftSource("a")
		w.dataSource.Spec.Source = cdiv1.DataSourceSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: namespace, Name: nameOf("a")}}
		w.snapshot = nameOf("a")
		return w
	}
	for name, test := range map[string]struct {
		desired, imported *golden.Revision
		held              bool
	}{
		"CDI's digest":                 {revisionOf("a"), nil, true},
		"its index":                    {byIndex("b", "a"), nil, true},
		"its index, after its digest":  {byIndex("b", "a"), revisionOf("a"), true},
		"the same again":               {byIndex("b", "a"), byIndex("b", "a"), true},
		"another platform":             {byIndex("c", "a"), byIndex("b", "a"), false},
		"another image":                {byIndex("c", "d"), byIndex("b", "a"), false},
		"CDI has not imported it":      {revisionOf("c"), nil, false},
		"nor by an index that changed": {byIndex("b", "c"), revisionOf("a"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world(test.desired)
			w.imported = test.imported
			if test.imported != nil {
				metav1.SetMetaDataAnnotation(&w.cron.ObjectMeta, golden.AnnotationImported, test.imported.String())
			}
			p := decide(w)
			if !test.held {
				require.Equal(t, createClaim, p.steps[0].do)
				return
			}
			require.False(t, outdated(p.cron))
			require.Equal(t, w.cron.Status.LastImportedPVC, p.cron.Status.LastImportedPVC)
			require.Equal(t, w.cron.Status.SourceFormat, p.cron.Status.SourceFormat)
			require.Equal(t, test.desired.String(), p.cron.Annotations[golden.AnnotationImported])
			for i := range p.steps {
				require.Equal(t, recordCron, p.steps[i].do)
			}
			// Written down, it is done.
			w.cron, w.imported = p.cron, test.desired
			require.Empty(t, decide(w).steps)
		})
	}
	t.Run("no snapshot", func(t *testing.T) {
		t.Parallel()
		w := world(revisionOf("a"))
		w.snapshot = ""
		require.Equal(t, createClaim, decide(w).steps[0].do)
	})
}

// TestSeesASnapshotOfCDI asks the API server for it, as long as the DataSource names it.
func TestSeesASnapshotOfCDI(t *testing.T) {
	cron, source := desiring(leftCron(), revisionOf("a")), leftSource("a")
	cron.Status.SourceFormat = ptr.To(cdiv1.DataImportCronSourceFormatSnapshot)
	source.Spec.Source = cdiv1.DataSourceSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: namespace, Name: nameOf("a")}}
	for name, test := range map[string]struct {
		snapshot client.Object
		want     string
	}{
		"ready":     {aSnapshot(nameOf("a"), true), nameOf("a")},
		"not ready": {aSnapshot(nameOf("a"), false), ""},
		"gone":      {aSnapshot(nameOf("b"), true), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, cron.DeepCopy(), source.DeepCopy(), testClass("fast", claimshape.AnnotationDefault), test.snapshot)
			w, err := c.roller.observe(t.Context(), c.cron())
			require.NoError(t, err)
			require.Equal(t, test.want, w.snapshot)
		})
	}
}

// TestDataVolumeOfSomebody: a DataVolume that CDI has not made for the cron stays, and so does its claim.
func TestDataVolumeOfSomebody(t *testing.T) {
	objects := leftByCDI()
	for _, object := range objects {
		if volume, ok := object.(*cdiv1.DataVolume); ok {
			volume.Labels = nil
		}
		if cron, ok := object.(*cdiv1.DataImportCron); ok {
			cron.Spec.ImportsToKeep = ptr.To[int32](1)
		}
	}
	c := newCluster(t, objects...)
	completed(c)
	c.settle(func() bool { return len(c.claimNames()) == 2 })
	c.run(20)
	require.ElementsMatch(t, []string{nameOf("a"), nameOf("9")}, c.claimNames())
	require.True(t, c.find(&cdiv1.DataVolume{}, nameOf("9")))
}

// TestCronOfCDIGoes deletes a cron with all that CDI has made for it, and with a finalizer of CDI's.
func TestCronOfCDIGoes(t *testing.T) {
	for policy, want := range map[cdiv1.DataImportCronRetentionPolicy]int{cdiv1.DataImportCronRetainAll: 3, cdiv1.DataImportCronRetainNone: 0} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			objects := leftByCDI()
			for _, object := range objects {
				if cron, ok := object.(*cdiv1.DataImportCron); ok {
					cron.Spec.RetentionPolicy, cron.Finalizers = &policy, []string{formerFinalizer}
				}
			}
			c := newCluster(t, objects...)
			completed(c)
			c.settle(c.holds(revisionOf("a")))
			c.run(5)
			require.NoError(t, c.store.Delete(t.Context(), c.cron()))
			for range 20 {
				c.tick()
			}
			require.False(t, c.find(&cdiv1.DataImportCron{}, "fedora-cron"))
			require.Len(t, c.claimNames(), want)
			require.Equal(t, want > 0, c.find(&cdiv1.DataVolume{}, nameOf("a")))
		})
	}
}
