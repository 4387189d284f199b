package roller

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

// rolled is a cluster whose cron has imported revision a.
func rolled(t *testing.T, edit ...func(*cdiv1.DataImportCron)) *cluster {
	t.Helper()
	cron := desiring(testCron(), revisionOf("a"))
	for _, change := range edit {
		change(cron)
	}
	c := newCluster(t, cron, testClass("fast", claimshape.AnnotationDefault), testClass("slow"))
	c.settle(c.holds(revisionOf("a")))
	return c
}

// TestDataSourceIsReadyAtOnce has the status of a DataSource change in the write that repoints it.
func TestDataSourceIsReadyAtOnce(t *testing.T) {
	c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault))
	pointed := 0
	c.fault = func(_ int, apply func() error) error {
		before, err := c.dataSource(), apply()
		if after := c.dataSource(); after != nil && (before == nil || before.Spec.Source.PVC.Name != after.Spec.Source.PVC.Name) {
			pointed++
			require.Equal(t, after.Spec.Source.PVC, after.Status.Source.PVC)
			require.Equal(t, "Ready", after.Status.Conditions[0].Reason)
		}
		return err
	}
	c.settle(c.holds(revisionOf("a")))
	c.want(revisionOf("b"))
	c.settle(c.holds(revisionOf("b")))
	require.Equal(t, 2, pointed)
}

// TestNewCronCostsFewWrites counts what a cron takes that the poller has just found the source of.
func TestNewCronCostsFewWrites(t *testing.T) {
	cron := desiring(testCron(), revisionOf("a"))
	cron.Finalizers = []string{Finalizer} // it comes with the poll
	c := newCluster(t, cron, testClass("fast", claimshape.AnnotationDefault))
	c.settle(c.holds(revisionOf("a")))
	require.Equal(t, 6, c.writes, "the claim twice, its DataSource once, the cron when the import is scheduled, begins and has succeeded")
}

// TestNothingIsListedWithoutAPrune: lists of a whole namespace are for the day on which a claim goes.
func TestNothingIsListedWithoutAPrune(t *testing.T) {
	c := rolled(t)
	c.want(revisionOf("b"))
	c.settle(c.holds(revisionOf("b")))
	require.Zero(t, c.listed)
	c.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.ImportsToKeep = ptr.To[int32](1) })
	c.settle(func() bool { return len(c.claimNames()) == 1 })
	require.Equal(t, 4, c.listed, "claims, imports, pods and DataSources, once")
}

func TestRollTellsWhatHappens(t *testing.T) {
	c := rolled(t)
	cron := c.cron()
	require.Equal(t, []cdiv1.ImportStatus{{DataVolumeName: nameOf("a"), Digest: digestOf("a")}}, cron.Status.CurrentImports)
	require.Equal(t, &cdiv1.DataVolumeSourcePVC{Namespace: namespace, Name: nameOf("a")}, cron.Status.LastImportedPVC)
	require.Equal(t, cdiv1.DataImportCronSourceFormatPvc, *cron.Status.SourceFormat)
	require.NotNil(t, cron.Status.LastImportTimestamp)
	require.Equal(t, revisionOf("a").String(), cron.Annotations[golden.AnnotationImported])
	require.Equal(t, map[string]string{golden.LabelCron: "fedora-cron"}, c.dataSource().Labels)
	claim := &corev1.PersistentVolumeClaim{}
	require.True(t, c.find(claim, nameOf("a")))
	require.Equal(t, "sha256:bytes of "+digestOf("a"), claim.Annotations[golden.AnnotationVerified])
	require.Equal(t, []string{
		"Normal Rolled importing " + digestOf("a") + " to golden claim " + nameOf("a"),
		"Normal Repointed DataSource fedora names " + nameOf("a") + " now",
	}, c.told())
	require.Equal(t, []float64{1}, c.metric("gild_golden_imports_total"))
	require.Equal(t, []float64{0}, c.metric("gild_dataimportcron_outdated"))

	writes := c.writes
	for range 5 {
		require.Zero(t, c.reconcile("fedora-cron"))
	}
	require.Equal(t, writes, c.writes, "what is fine costs no write")

	c.want(revisionOf("b"))
	c.tick()
	require.Equal(t, reasonOutdated, c.condition(cdiv1.DataImportCronUpToDate).Reason)
	require.Equal(t, []float64{1}, c.metric("gild_dataimportcron_outdated"))
	c.settle(c.holds(revisionOf("b")))
}

// TestFailingImportIsTriedAgain is row L4: it fails five times, and then the file is mended under the
// same validators.
func TestFailingImportIsTriedAgain(t *testing.T) {
	c := rolled(t)
	good := c.end
	var tries []time.Duration
	began := c.clock.Now()
	c.end = func(r *golden.Revision) (string, string) {
		tries = append(tries, c.clock.Now().Sub(began))
		if len(tries) > 5 {
			return good(r)
		}
		return "", "TruncatedImage"
	}
	c.told()
	c.want(revisionOf("b"))
	c.settle(func() bool { return len(tries) == 1 })
	require.Equal(t, "TruncatedImage", c.condition(cdiv1.DataImportCronProgressing).Reason)
	require.Contains(t, c.condition(cdiv1.DataImportCronProgressing).Message, "it broke; try 2 starts at 2026-11-21T12:0")
	require.Equal(t, nameOf("a"), c.dataSource().Spec.Source.PVC.Name)
	require.Equal(t, nameOf("a"), c.cron().Status.LastImportedPVC.Name)
	c.settle(c.holds(revisionOf("b")))
	require.Len(t, tries, 6)
	for i := 1; i < len(tries); i++ {
		wait := tries[i] - tries[i-1]
		require.GreaterOrEqual(t, wait, retryAfter(i), "try %d", i+1)
		require.Less(t, wait, retryAfter(i)+time.Minute, "try %d", i+1)
	}
	require.ElementsMatch(t, []float64{5, 2}, c.metric("gild_golden_imports_total"), "failed and succeeded")
	failed := slices.DeleteFunc(c.told(), func(text string) bool { return !strings.HasPrefix(text, "Warning ImportFailed") })
	require.Len(t, failed, 5)
}

func TestStuckImportDoesNotBlockANewerOne(t *testing.T) {
	c := rolled(t)
	c.stuck = true
	c.want(revisionOf("b"))
	c.run(20)
	require.Contains(t, c.claimNames(), nameOf("b"))
	c.want(revisionOf("c"))
	c.stuck = false
	c.settle(c.holds(revisionOf("c")))
	require.ElementsMatch(t, []string{nameOf("a"), nameOf("c")}, c.claimNames())
}

func TestQuotaIsTold(t *testing.T) {
	c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault))
	full := true
	c.admit = func(claim *corev1.PersistentVolumeClaim) error {
		if full {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, claim.Name, errors.New("exceeded quota: storage"))
		}
		return nil
	}
	c.run(30)
	require.Equal(t, reasonQuota, c.condition(cdiv1.DataImportCronProgressing).Reason)
	require.Contains(t, c.condition(cdiv1.DataImportCronProgressing).Message, "exceeded quota: storage")
	require.Empty(t, c.cron().Status.CurrentImports)
	require.Equal(t, 2, c.writes, "the finalizer and the condition")
	full = false
	c.settle(c.holds(revisionOf("a")))
}

func TestDefaultClassFlips(t *testing.T) {
	c := rolled(t)
	for name, isDefault := range map[string]string{"fast": "false", "slow": "true"} {
		class := &storagev1.StorageClass{}
		require.NoError(t, c.store.Get(t.Context(), keyOf("", name), class))
		metav1.SetMetaDataAnnotation(&class.ObjectMeta, claimshape.AnnotationDefault, isDefault)
		require.NoError(t, c.store.Update(t.Context(), class))
	}
	second := golden.SecondClaimName("fedora", digestOf("a"), "slow")
	c.settle(func() bool { return c.holds(revisionOf("a"))() && c.dataSource().Spec.Source.PVC.Name == second })
	claim := &corev1.PersistentVolumeClaim{}
	require.True(t, c.find(claim, second))
	require.Equal(t, "slow", *claim.Spec.StorageClassName)
	require.ElementsMatch(t, []string{nameOf("a"), second}, c.claimNames())
}

func TestProfileShapesTheClaim(t *testing.T) {
	profile := profileOf(set(corev1.PersistentVolumeBlock, corev1.ReadWriteMany))
	c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault), profile)
	c.settle(c.holds(revisionOf("a")))
	require.Equal(t, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, c.claims()[0].Spec.AccessModes)

	c = newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault))
	c.noProfiles = true
	c.settle(c.holds(revisionOf("a")))
	require.Equal(t, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, c.claims()[0].Spec.AccessModes)
}

func TestConfigEnlargesTheClaim(t *testing.T) {
	config := &cdiv1.CDIConfig{ObjectMeta: metav1.ObjectMeta{Name: claimshape.ConfigName},
		Spec: cdiv1.CDIConfigSpec{FilesystemOverhead: &cdiv1.FilesystemOverhead{Global: "0.5"}}}
	c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault), config)
	c.settle(c.holds(revisionOf("a")))
	size := c.claims()[0].Spec.Resources.Requests[corev1.ResourceStorage]
	require.Equal(t, "7680Mi", size.String())
}

func TestDataSourceIsKept(t *testing.T) {
	c := rolled(t)
	source := c.dataSource()
	source.Spec.Source = cdiv1.DataSourceSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: namespace, Name: "theirs"}}
	require.NoError(t, c.store.Update(t.Context(), source))
	c.settle(c.holds(revisionOf("a")))
	require.Nil(t, c.dataSource().Spec.Source.Snapshot)

	require.NoError(t, c.store.Delete(t.Context(), c.dataSource()))
	c.settle(c.holds(revisionOf("a")))

	// Also while a newer revision is imported.
	c.stuck = true
	c.want(revisionOf("b"))
	c.run(5)
	require.NoError(t, c.store.Delete(t.Context(), c.dataSource()))
	c.run(5)
	require.Equal(t, nameOf("a"), c.dataSource().Spec.Source.PVC.Name)
}

func TestDataSourceOfSomebodyElseIsLeftAlone(t *testing.T) {
	theirs := &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "fedora"}}
	c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault), theirs)
	c.settle(func() bool { return !outdated(c.cron()) })
	require.Nil(t, c.dataSource().Spec.Source.PVC)
	require.Equal(t, reasonNotManaged, c.condition(cdiv1.DataImportCronProgressing).Reason)
	told := slices.DeleteFunc(c.told(), func(text string) bool { return !strings.HasPrefix(text, "Warning") })
	require.Len(t, told, 1, "it is told once")
	require.Contains(t, told[0], reasonNotManaged)

	source := c.dataSource()
	source.Labels = map[string]string{golden.LabelCron: "fedora-cron"}
	require.NoError(t, c.store.Update(t.Context(), source))
	c.settle(c.holds(revisionOf("a")))
	require.Equal(t, reasonNoImport, c.condition(cdiv1.DataImportCronProgressing).Reason)
}

func TestDataSourceOfAnotherCronStopsThisOne(t *testing.T) {
	c := rolled(t)
	rival := desiring(testCron(), revisionOf("b"))
	rival.Name, rival.UID = "rival", "rival-uid"
	require.NoError(t, c.store.Create(t.Context(), rival))
	c.told()
	for range 3 {
		c.reconcile("rival")
	}
	require.NoError(t, c.store.Get(t.Context(), keyOf(namespace, "rival"), rival))
	require.Equal(t, reasonAlreadyManaged, conditionOf(rival, cdiv1.DataImportCronProgressing).Reason)
	told := c.told()
	require.Len(t, told, 1)
	require.Contains(t, told[0], "Warning ErrDataSourceAlreadyManaged DataSource fedora is already managed by DataImportCron fedora-cron")
	require.Equal(t, []string{nameOf("a")}, c.claimNames())

	// When the first one turns to another DataSource, this one follows.
	c.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.ManagedDataSource = "other" })
	for range 30 {
		c.reconcile("rival")
		c.playCluster()
	}
	require.Equal(t, "rival", c.dataSource().Labels[golden.LabelCron])
	require.Equal(t, nameOf("b"), c.dataSource().Spec.Source.PVC.Name)
}

// TestCronMadeAnewUsesWhatIsThere has a cron deleted and made again: what was retained is used.
func TestCronMadeAnewUsesWhatIsThere(t *testing.T) {
	c := rolled(t)
	require.NoError(t, c.store.Delete(t.Context(), c.cron()))
	c.run(2)
	require.Equal(t, []string{nameOf("a")}, c.claimNames())
	require.NotNil(t, c.dataSource())
	require.NoError(t, c.store.Create(t.Context(), desiring(testCron(), revisionOf("a"))))
	c.settle(c.holds(revisionOf("a")))
	require.Equal(t, 1, c.made)
}

func TestLabelsFollowTheCron(t *testing.T) {
	c := rolled(t)
	c.edit(func(cron *cdiv1.DataImportCron) {
		cron.Labels = map[string]string{"instancetype.kubevirt.io/default-preference": "fedora", "team": "images"}
		cron.Spec.RetentionPolicy = ptr.To(cdiv1.DataImportCronRetainNone)
	})
	c.settle(c.holds(revisionOf("a")))
	want := map[string]string{golden.LabelCron: "fedora-cron", golden.LabelCleanup: "true", "instancetype.kubevirt.io/default-preference": "fedora"}
	require.Equal(t, want, c.dataSource().Labels)
	labels := c.claims()[0].Labels
	delete(labels, annotationOfOthers)
	require.Equal(t, want, labels)

	c.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.RetentionPolicy = ptr.To(cdiv1.DataImportCronRetainAll) })
	c.settle(c.holds(revisionOf("a")))
	require.NotContains(t, c.dataSource().Labels, golden.LabelCleanup)
	require.NotContains(t, c.claims()[0].Labels, golden.LabelCleanup)
}

// TestClaimWithoutARevisionIsNotOurs has a user label a claim as the cron's.
func TestClaimWithoutARevisionIsNotOurs(t *testing.T) {
	theirs := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "theirs", Labels: map[string]string{golden.LabelCron: "fedora-cron"}}}
	cron := desiring(testCron(), revisionOf("a"))
	cron.Spec.RetentionPolicy = ptr.To(cdiv1.DataImportCronRetainNone)
	c := newCluster(t, cron, testClass("fast", claimshape.AnnotationDefault), theirs)
	c.settle(c.holds(revisionOf("a")))
	require.NoError(t, c.store.Delete(t.Context(), c.cron()))
	c.run(3)
	require.Equal(t, []string{"theirs"}, c.claimNames())
}

// TestOwnDataSourceSeenLateIsAUser has the DataSource name a claim that our view takes for outdated.
func TestOwnDataSourceSeenLateIsAUser(t *testing.T) {
	c := rolled(t)
	source := c.dataSource()
	used := users{dataSources: []cdiv1.DataSource{*source}}
	claim := &corev1.PersistentVolumeClaim{}
	require.True(t, c.find(claim, nameOf("a")))
	require.Equal(t, "DataSource golden-images/fedora", used.of(claim))
}

// TestTransitionTimes are CDI's: the transition moves with the status, the heartbeat with anything, and
// what a pass says twice moves nothing.
func TestTransitionTimes(t *testing.T) {
	before := testCron()
	set := func(cron *cdiv1.DataImportCron, status corev1.ConditionStatus, reason string, after time.Duration) {
		setCondition(cron, cdiv1.DataImportCronProgressing, status, reason, "m", start().Add(after))
	}
	set(before, corev1.ConditionFalse, "One", 0)
	after := before.DeepCopy()
	set(after, corev1.ConditionTrue, "Two", time.Minute)
	set(after, corev1.ConditionFalse, "One", time.Minute)
	steady(before, after)
	require.Equal(t, before, after)

	set(after, corev1.ConditionTrue, "Two", time.Minute)
	set(after, corev1.ConditionFalse, "Two", time.Minute)
	steady(before, after)
	state := conditionOf(after, cdiv1.DataImportCronProgressing)
	require.True(t, state.LastTransitionTime.Equal(ptr.To(metav1.NewTime(start()))))
	require.True(t, state.LastHeartbeatTime.Equal(ptr.To(metav1.NewTime(start().Add(time.Minute)))))

	set(after, corev1.ConditionTrue, "Two", 2*time.Minute)
	steady(before, after)
	require.True(t, conditionOf(after, cdiv1.DataImportCronProgressing).LastTransitionTime.Equal(ptr.To(metav1.NewTime(start().Add(2*time.Minute)))))
}

// TestLabelsFollowTheCronWhileAnImportIsStuck has a DataSource take the labels of the claim that it
// names, as pkg/datasource sees to it: that and the roller come to the same.
func TestLabelsFollowTheCronWhileAnImportIsStuck(t *testing.T) {
	const preference = "instancetype.kubevirt.io/default-preference"
	c := rolled(t, func(cron *cdiv1.DataImportCron) { cron.Labels = map[string]string{preference: "fedora.38"} })
	c.stuck = true
	c.want(revisionOf("b"))
	c.run(5)
	c.edit(func(cron *cdiv1.DataImportCron) { cron.Labels[preference] = "fedora.39" })
	copyLabel := func() {
		source, claim := c.dataSource(), &corev1.PersistentVolumeClaim{}
		require.True(t, c.find(claim, source.Spec.Source.PVC.Name))
		if source.Labels[preference] != claim.Labels[preference] {
			source.Labels[preference] = claim.Labels[preference]
			require.NoError(t, c.store.Update(t.Context(), source))
		}
	}
	c.eachRound = copyLabel
	c.run(20)
	writes := c.writes
	c.run(20)
	require.Equal(t, writes, c.writes)
	require.Equal(t, "fedora.39", c.dataSource().Labels[preference])
}

// TestForgedClaimIsNotOurs has somebody make a claim with the marks of a golden claim.
func TestForgedClaimIsNotOurs(t *testing.T) {
	forge := func(edit func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		claim := aClaim(revisionOf("a"), goodSince(0)).PersistentVolumeClaim
		edit(claim)
		return claim
	}
	_, genuine := asGolden(forge(func(*corev1.PersistentVolumeClaim) {}), "fedora-cron")
	require.True(t, genuine)
	for name, claim := range map[string]*corev1.PersistentVolumeClaim{
		"no source":         forge(func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSourceRef = nil }),
		"another cron":      forge(func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSourceRef.Name = "debian-cron" }),
		"another kind":      forge(func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSourceRef.Kind = "VolumeImportSource" }),
		"another group":     forge(func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSourceRef.APIGroup = nil }),
		"another namespace": forge(func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSourceRef.Namespace = ptr.To("other") }),
		"another label":     forge(func(c *corev1.PersistentVolumeClaim) { c.Labels[golden.LabelCron] = "debian-cron" }),
	} {
		_, genuine := asGolden(claim, "fedora-cron")
		require.False(t, genuine, name)
	}

	forged := forge(func(c *corev1.PersistentVolumeClaim) { c.Spec.DataSourceRef = nil })
	c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault), forged)
	c.settle(c.holds(revisionOf("a")))
	require.NotEqual(t, forged.Name, c.dataSource().Spec.Source.PVC.Name)
}

// TestManagedDataSourceIsEdited has a cron manage another DataSource from then on.
func TestManagedDataSourceIsEdited(t *testing.T) {
	for _, test := range []struct {
		policy cdiv1.DataImportCronRetentionPolicy
		heir   bool
		stays  bool
		labels map[string]string
	}{
		{policy: cdiv1.DataImportCronRetainAll, stays: true},
		{policy: cdiv1.DataImportCronRetainNone},
		{policy: cdiv1.DataImportCronRetainNone, heir: true, stays: true, labels: map[string]string{golden.LabelCron: "fedora-cron", golden.LabelCleanup: "true"}},
	} {
		c := rolled(t, func(cron *cdiv1.DataImportCron) { cron.Spec.RetentionPolicy = &test.policy })
		if test.heir {
			heir := testCron()
			heir.Name, heir.UID = "heir", "heir-uid"
			require.NoError(t, c.store.Create(t.Context(), heir))
		}
		c.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.ManagedDataSource = "other" })
		c.run(10)
		other := &cdiv1.DataSource{}
		require.True(t, c.find(other, "other"))
		require.Equal(t, nameOf("a"), other.Spec.Source.PVC.Name)
		require.Equal(t, test.stays, c.dataSource() != nil, test.policy)
		if test.stays {
			require.Equal(t, nameOf("a"), c.dataSource().Spec.Source.PVC.Name)
			require.Equal(t, test.labels, c.dataSource().Labels)
		}
		writes := c.writes
		c.run(10)
		require.Equal(t, writes, c.writes)
		require.NoError(t, c.store.Delete(t.Context(), c.cron()))
		c.run(3)
		require.Equal(t, test.policy == cdiv1.DataImportCronRetainAll, c.find(other, "other"))
	}
}

// TestFormerDataSourceStaysUntilTheNextIsPointed has the next one be somebody else's at first.
func TestFormerDataSourceStaysUntilTheNextIsPointed(t *testing.T) {
	c := rolled(t, func(cron *cdiv1.DataImportCron) { cron.Spec.RetentionPolicy = ptr.To(cdiv1.DataImportCronRetainNone) })
	theirs := &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "other"}}
	require.NoError(t, c.store.Create(t.Context(), theirs))
	c.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.ManagedDataSource = "other" })
	c.run(10)
	require.NotNil(t, c.dataSource())
	require.NoError(t, c.store.Delete(t.Context(), theirs))
	c.run(10)
	require.Nil(t, c.dataSource())
}
