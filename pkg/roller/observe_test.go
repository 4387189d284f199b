package roller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

// TestBoundClaimWithoutAnImport has the import of a claim deleted right after the hand-over: the volume
// tells whether it was filled for this claim.
func TestBoundClaimWithoutAnImport(t *testing.T) {
	for _, test := range []struct {
		name string
		from string
		age  time.Duration
		want bool
	}{
		{"filled for it", namespace + "/fedora-cron", -time.Second, true},
		{"filled from another source", namespace + "/debian-cron", -time.Second, false},
		{"filled for an earlier claim", namespace + "/fedora-cron", time.Hour, false},
		{"never filled", "", -time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault))
			c.stuck = true
			c.run(3)
			claim := c.claims()[0]
			pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + string(claim.UID), CreationTimestamp: metav1.NewTime(claim.CreationTimestamp.Add(-test.age))}}
			if test.from != "" {
				metav1.SetMetaDataAnnotation(&pv.ObjectMeta, golden.AnnotationPopulatedFrom, test.from)
			}
			require.NoError(t, c.store.Create(t.Context(), pv))
			claim.Spec.VolumeName = pv.Name
			require.NoError(t, c.store.Update(t.Context(), &claim))
			claim.Status.Phase = corev1.ClaimBound
			require.NoError(t, c.store.Status().Update(t.Context(), &claim))
			c.run(10)
			require.Equal(t, test.want, c.holds(revisionOf("a"))())
			if !test.want {
				require.Nil(t, c.dataSource())
				require.Equal(t, reasonForeignVolume, conditionOf(c.cron(), "Progressing").Reason)
			}
		})
	}
}

// TestImportOfAnotherClaimProvesNothing has an import bear the claim's name that was made for another.
func TestImportOfAnotherClaimProvesNothing(t *testing.T) {
	c := newCluster(t, desiring(testCron(), revisionOf("a")), testClass("fast", claimshape.AnnotationDefault))
	c.stuck = true
	c.run(3)
	claim := c.claims()[0]
	foreign := &v1alpha1.VMDiskImport{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: claim.Name, UID: "foreign"},
		Spec:   v1alpha1.VMDiskImportSpec{ClaimRef: v1alpha1.ClaimReference{Name: claim.Name, UID: claim.UID}},
		Status: v1alpha1.VMDiskImportStatus{Phase: v1alpha1.PhaseSucceeded, VolumeName: "pv"}}
	require.NoError(t, c.store.Create(t.Context(), foreign))
	claim.Spec.VolumeName = "pv"
	require.NoError(t, c.store.Update(t.Context(), &claim))
	claim.Status.Phase = corev1.ClaimBound
	require.NoError(t, c.store.Status().Update(t.Context(), &claim))
	c.run(10)
	require.Nil(t, c.dataSource())
}

// TestImportOfAnotherSourceProvesNothing has an import fill the claim from somewhere else.
func TestImportOfAnotherSourceProvesNothing(t *testing.T) {
	claim := aClaim(revisionOf("a"))
	for _, of := range []v1alpha1.ImageReference{{Kind: golden.CronKind, Name: "fedora-cron"}, {Kind: golden.CronKind, Name: "debian-cron"}, {Kind: "VMDiskImage", Name: "fedora-cron"}} {
		imp := &v1alpha1.VMDiskImport{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: claim.Name, OwnerReferences: []metav1.OwnerReference{{Name: claim.Name, UID: claim.UID, Controller: ptr.To(true)}}},
			Spec:       v1alpha1.VMDiskImportSpec{ClaimRef: v1alpha1.ClaimReference{UID: claim.UID}, ImageRef: of},
		}
		read, err := readImport(t.Context(), newStore(t, imp), claim)
		require.NoError(t, err)
		require.Equal(t, of.Name == "fedora-cron" && of.Kind == golden.CronKind, read != nil, of)
	}
}
