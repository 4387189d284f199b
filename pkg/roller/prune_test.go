package roller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func keyOf(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

func TestOutdatedClaims(t *testing.T) {
	digits := []string{"a", "b", "c", "d", "e"}
	for _, test := range []struct {
		name    string
		keep    *int32
		garbage *cdiv1.DataImportCronGarbageCollect
		current string
		want    []string
	}{
		{name: "three by default", current: "e", want: []string{"b", "a"}},
		{name: "the current one counts, whenever it was used", current: "a", want: []string{"c", "b"}},
		{name: "one", keep: ptr.To[int32](1), current: "e", want: []string{"d", "c", "b", "a"}},
		{name: "none is one", keep: ptr.To[int32](0), current: "e", want: []string{"d", "c", "b", "a"}},
		{name: "more than there are", keep: ptr.To[int32](9), current: "e"},
		{name: "never", garbage: ptr.To(cdiv1.DataImportCronGarbageCollectNever), current: "e"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var claims []*goldenClaim
			for i, c := range digits {
				claims = append(claims, aClaim(revisionOf(c), goodSince(time.Duration(len(digits)-i)*time.Hour)))
			}
			w := worldOf(revisionOf(test.current), claims...)
			current := w.claim(nameOf(test.current))
			w.settled(current, revisionOf(test.current))
			current.Annotations["cdi.kubevirt.io/storage.import.lastUseTime"] = start().Format(time.RFC3339Nano)
			w.cron.Spec.ImportsToKeep, w.cron.Spec.GarbageCollect = test.keep, test.garbage
			p := decide(w)
			var got []string
			for i := range p.steps {
				require.Equal(t, pruneClaim, p.steps[i].do)
				got = append(got, p.steps[i].seen.revision.Digest[7:8])
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestNothingIsPrunedBeforeTheStatusNamesTheNewOne(t *testing.T) {
	older, newer := aClaim(revisionOf("a"), goodSince(time.Hour)), aClaim(revisionOf("b"), goodSince(0))
	w := worldOf(revisionOf("b"), older, newer).settled(older, revisionOf("a")).pointed(newer)
	w.cron.Spec.ImportsToKeep = ptr.To[int32](1)
	p := decide(w)
	require.Len(t, p.steps, 1)
	require.Equal(t, recordCron, p.steps[0].do)
}

// TestClaimInUseStays has somebody use the outdated claim in each way.
func TestClaimInUseStays(t *testing.T) {
	old := nameOf("a")
	clone := func(edit func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "clone"}}
		claim.Status.Phase = corev1.ClaimPending
		edit(claim)
		return claim
	}
	source := func(namespace, name, of string) *cdiv1.DataSource {
		return &cdiv1.DataSource{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: cdiv1.DataSourceSpec{
			Source: cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: of, Name: old}}}}
	}
	pod := func(namespace string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "reader"}, Status: corev1.PodStatus{Phase: phase},
			Spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "tmp"}, {Name: "disk", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: old}}}}}}
	}
	for _, test := range []struct {
		name  string
		user  client.Object
		stays bool
	}{
		{"cloned by dataSource", clone(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: old}
		}), true},
		{"cloned by dataSourceRef", clone(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSourceRef = &corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: old}
		}), true},
		{"cloned already", clone(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: old}
			c.Status.Phase = corev1.ClaimBound
		}), false},
		{"another claim is cloned", clone(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "other"}
		}), false},
		{"a snapshot of its name is used", clone(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ptr.To("snapshot.storage.k8s.io"), Kind: "VolumeSnapshot", Name: old}
		}), false},
		{"a claim of its name in another namespace is cloned", clone(func(c *corev1.PersistentVolumeClaim) {
			c.Spec.DataSourceRef = &corev1.TypedObjectReference{Kind: "PersistentVolumeClaim", Name: old, Namespace: ptr.To("other")}
		}), false},
		{"mounted", pod(namespace, corev1.PodRunning), true},
		{"mounted by a pod that waits", pod(namespace, corev1.PodPending), true},
		{"was mounted", pod(namespace, corev1.PodSucceeded), false},
		{"a claim of its name is mounted elsewhere", pod("other", corev1.PodRunning), false},
		{"named by another DataSource", source(namespace, "pinned", namespace), true},
		{"named by a DataSource of another namespace", source("other", "pinned", namespace), false},
		{"a claim of its name elsewhere is named", source("other", "pinned", "other"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := rolled(t, func(cron *cdiv1.DataImportCron) { cron.Spec.ImportsToKeep = ptr.To[int32](1) })
			require.NoError(t, c.store.Create(t.Context(), test.user))
			c.want(revisionOf("b"))
			c.settle(c.holds(revisionOf("b")))
			c.run(10)
			require.Equal(t, test.stays, c.find(&corev1.PersistentVolumeClaim{}, old))
			if test.stays {
				require.NoError(t, c.store.Delete(t.Context(), test.user))
				c.settle(func() bool { return !c.find(&corev1.PersistentVolumeClaim{}, old) })
			}
			require.Contains(t, c.told(), "Normal Pruned golden claim "+old+" is outdated and was deleted: 1 are kept")
		})
	}
}

// TestClaimThatIsCopiedIsInUse until the import has ended.
func TestClaimThatIsCopiedIsInUse(t *testing.T) {
	old := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "old"}}
	user := "VMDiskImport " + namespace + "/machine"
	for _, test := range []struct {
		name  string
		of    v1alpha1.CopySource
		phase v1alpha1.ImportPhase
		want  string
	}{
		{"copied", v1alpha1.CopySource{Kind: v1alpha1.CopyOfClaim, Namespace: namespace, Name: "old"}, v1alpha1.PhaseImporting, user},
		{"copied soon", v1alpha1.CopySource{Kind: v1alpha1.CopyOfClaim, Namespace: namespace, Name: "old"}, "", user},
		{"copied already", v1alpha1.CopySource{Kind: v1alpha1.CopyOfClaim, Namespace: namespace, Name: "old"}, v1alpha1.PhaseSucceeded, ""},
		{"was to be copied", v1alpha1.CopySource{Kind: v1alpha1.CopyOfClaim, Namespace: namespace, Name: "old"}, v1alpha1.PhaseFailed, ""},
		{"a claim of its name elsewhere", v1alpha1.CopySource{Kind: v1alpha1.CopyOfClaim, Namespace: "other", Name: "old"}, v1alpha1.PhaseImporting, ""},
		{"a snapshot of its name", v1alpha1.CopySource{Kind: v1alpha1.CopyOfSnapshot, Namespace: namespace, Name: "old"}, v1alpha1.PhaseImporting, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			imp := v1alpha1.VMDiskImport{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "machine"}}
			imp.Spec.CopyOf, imp.Status.Phase = &test.of, test.phase
			used := users{imports: []v1alpha1.VMDiskImport{imp, {}}}
			require.Equal(t, test.want, used.of(old))
		})
	}
}

// TestClaimMarkedSinceStays deletes a claim as it was seen before somebody marked it.
func TestClaimMarkedSinceStays(t *testing.T) {
	c := rolled(t)
	seen := c.claims()[0]
	marked := seen.DeepCopy()
	metav1.SetMetaDataAnnotation(&marked.ObjectMeta, "example.org/mark", "new")
	require.NoError(t, c.store.Update(t.Context(), marked))
	require.True(t, apierrors.IsConflict(c.roller.delete(t.Context(), &seen)))
	require.True(t, c.find(marked, nameOf("a")))
	require.True(t, marked.DeletionTimestamp.IsZero())
}
