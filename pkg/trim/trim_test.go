package trim_test

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/trim"
)

// full has all that the API server may give an object, and of labels and annotations what it is given.
func full(labels, annotations map[string]string) metav1.ObjectMeta {
	at := metav1.NewTime(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	o := metav1.ObjectMeta{
		Namespace: "vms", Name: "disk", GenerateName: "di", UID: "uid", ResourceVersion: "7", Generation: 3,
		CreationTimestamp: at, DeletionTimestamp: &at, DeletionGracePeriodSeconds: ptr.To[int64](30), Finalizers: []string{"kubernetes.io/pvc-protection"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "PersistentVolumeClaim", Name: "disk", UID: "owner", Controller: ptr.To(true)}},
		ManagedFields:   []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1("{}")}},
		Labels:          map[string]string{"app": "web"}, Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "pv.kubernetes.io/bind-completed": "yes"},
	}
	for key, value := range labels {
		o.Labels[key] = value
	}
	for key, value := range annotations {
		o.Annotations[key] = value
	}
	return o
}

// identified is what is kept of full besides labels and annotations.
func identified(labels, annotations map[string]string) metav1.ObjectMeta {
	o := full(nil, nil)
	return metav1.ObjectMeta{
		Namespace: o.Namespace, Name: o.Name, UID: o.UID, ResourceVersion: o.ResourceVersion,
		CreationTimestamp: o.CreationTimestamp, DeletionTimestamp: o.DeletionTimestamp, Labels: labels, Annotations: annotations,
	}
}

func fullClaim(group, kind string, labels, annotations map[string]string) *corev1.PersistentVolumeClaim {
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: full(labels, annotations),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, Selector: &metav1.LabelSelector{},
			Resources: corev1.VolumeResourceRequirements{Requests: size, Limits: size}, VolumeName: "pv",
			StorageClassName: ptr.To("fast"), VolumeMode: ptr.To(corev1.PersistentVolumeBlock), VolumeAttributesClassName: ptr.To("gold"),
			DataSource:    &corev1.TypedLocalObjectReference{APIGroup: ptr.To(group), Kind: kind, Name: "from"},
			DataSourceRef: &corev1.TypedObjectReference{APIGroup: ptr.To(group), Kind: kind, Name: "from"},
		},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: size, AllocatedResources: size,
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, Conditions: []corev1.PersistentVolumeClaimCondition{{Type: "Resizing"}}},
	}
}

// TestClaim tells what is kept of claims, and that all else is cut.
func TestClaim(t *testing.T) {
	cron := map[string]string{golden.LabelCron: "fedora-cron"}
	marks := map[string]string{golden.AnnotationRevision: "{}", "gild.dev/failed-imports": "{}"}
	verified := map[string]string{golden.AnnotationVerified: "true", golden.AnnotationLastUseTime: "then"}
	for name, test := range map[string]struct {
		claim *corev1.PersistentVolumeClaim
		want  func(kept, of *corev1.PersistentVolumeClaim)
	}{
		"nothing to do with us": {
			claim: fullClaim("snapshot.storage.k8s.io", "VolumeSnapshot", nil, nil),
			want:  func(_, _ *corev1.PersistentVolumeClaim) {},
		},
		"labels that DataSources pass on": {
			claim: fullClaim("", "PersistentVolumeClaim", map[string]string{"instancetype.kubevirt.io/default-preference": "fedora"}, nil),
			want: func(kept, _ *corev1.PersistentVolumeClaim) {
				kept.Labels = map[string]string{"instancetype.kubevirt.io/default-preference": "fedora"}
			},
		},
		"filled from a VMDiskImage": {
			claim: fullClaim(v1alpha1.Group, "VMDiskImage", nil, nil),
			want:  func(kept, of *corev1.PersistentVolumeClaim) { kept.Spec.DataSourceRef = of.Spec.DataSourceRef },
		},
		"golden": {
			claim: fullClaim(golden.Group, golden.CronKind, cron, marks),
			want: func(kept, of *corev1.PersistentVolumeClaim) {
				kept.Labels, kept.Annotations = cron, marks
				kept.Spec = corev1.PersistentVolumeClaimSpec{
					VolumeName: "pv", DataSourceRef: of.Spec.DataSourceRef, StorageClassName: of.Spec.StorageClassName,
					AccessModes: of.Spec.AccessModes, VolumeMode: of.Spec.VolumeMode,
					Resources: corev1.VolumeResourceRequirements{Requests: of.Spec.Resources.Requests},
				}
			},
		},
		"golden, of CDI": {
			claim: fullClaim(golden.Group, "VolumeImportSource", cron, map[string]string{golden.AnnotationPodPhase: "Running"}),
			want: func(kept, of *corev1.PersistentVolumeClaim) {
				kept.Labels, kept.Annotations = cron, map[string]string{golden.AnnotationPodPhase: "Running"}
				kept.Spec = corev1.PersistentVolumeClaimSpec{
					VolumeName: "pv", DataSourceRef: of.Spec.DataSourceRef, StorageClassName: of.Spec.StorageClassName,
					AccessModes: of.Spec.AccessModes, VolumeMode: of.Spec.VolumeMode,
					Resources: corev1.VolumeResourceRequirements{Requests: of.Spec.Resources.Requests},
				}
			},
		},
		"golden and verified": {
			claim: fullClaim(golden.Group, golden.CronKind, cron, verified),
			want: func(kept, of *corev1.PersistentVolumeClaim) {
				kept.Labels, kept.Annotations = cron, verified
				kept.Spec.DataSourceRef, kept.Spec.StorageClassName = of.Spec.DataSourceRef, of.Spec.StorageClassName
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := &corev1.PersistentVolumeClaim{
				ObjectMeta: identified(nil, nil), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv"}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
			}
			test.want(want, test.claim)
			requireTrimmed(t, test.claim, want)
		})
	}
}

// TestImport has a finished import lose all but whose it is and how it ended.
func TestImport(t *testing.T) {
	at := metav1.NewTime(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "NotFound", Message: "it is gone"}
	imp := &v1alpha1.VMDiskImport{
		ObjectMeta: full(nil, map[string]string{"gild.dev/note": "x"}),
		Spec: v1alpha1.VMDiskImportSpec{
			ClaimRef:  v1alpha1.ClaimReference{Name: "disk", UID: "owner"},
			ImageRef:  v1alpha1.ImageReference{Kind: golden.CronKind, Name: "fedora-cron", UID: "cron", Revision: "sha256:0"},
			ImageSpec: v1alpha1.ImageSpec{Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example.org/disk"}}, Checksum: "sha256:0"},
			Pin:       &v1alpha1.Pin{ETag: "x"}, RecordDigest: true,
		},
		Status: v1alpha1.VMDiskImportStatus{
			Phase: v1alpha1.PhaseFailed, VolumeName: "pv", Attempts: 3, NextAttemptTime: &at, Progress: &v1alpha1.ImportProgress{Percent: "42%"},
			LastFailure: &v1alpha1.ImportFailure{Reason: "NotFound", Message: "it is gone", Time: at},
			Result:      &v1alpha1.ImportResult{Digest: "sha256:1", ETag: "x", Time: at}, TargetUID: "prime", ResolvedReference: "x",
			References: []v1alpha1.ObservedReference{{Kind: "Secret", Name: "login"}},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue}, ready},
		},
	}
	want := &v1alpha1.VMDiskImport{
		ObjectMeta: identified(nil, nil),
		Spec: v1alpha1.VMDiskImportSpec{
			ClaimRef: v1alpha1.ClaimReference{Name: "disk", UID: "owner"}, ImageRef: v1alpha1.ImageReference{Kind: golden.CronKind, Name: "fedora-cron"},
		},
		Status: v1alpha1.VMDiskImportStatus{
			Phase: v1alpha1.PhaseFailed, VolumeName: "pv", Attempts: 3, NextAttemptTime: &at, LastFailure: &v1alpha1.ImportFailure{Time: at},
			Result: &v1alpha1.ImportResult{Digest: "sha256:1"}, Conditions: []metav1.Condition{ready},
		},
	}
	want.OwnerReferences = imp.OwnerReferences
	requireTrimmed(t, imp, want)
	requireTrimmed(t, &v1alpha1.VMDiskImport{}, &v1alpha1.VMDiskImport{})
}

// requireTrimmed also trims twice, which a cache may do, and makes sure that what came in is as it was:
// it may be read by others at that moment.
func requireTrimmed(t *testing.T, in, want client.Object) {
	t.Helper()
	before := in.DeepCopyObject()
	kept, err := trim.Object(in)
	require.NoError(t, err)
	require.Equal(t, want, kept)
	require.Equal(t, before, in)
	again, err := trim.Object(kept)
	require.NoError(t, err)
	require.Equal(t, want, again)
}

// TestObject has an object of any other kind keep all but what only others read.
func TestObject(t *testing.T) {
	source := &cdiv1.DataSource{ObjectMeta: full(nil, nil), Status: cdiv1.DataSourceStatus{Conditions: []cdiv1.DataSourceCondition{{Type: cdiv1.DataSourceReady}}}}
	want := source.DeepCopy()
	want.ManagedFields = nil
	delete(want.Annotations, corev1.LastAppliedConfigAnnotation)
	for range 2 {
		kept, err := trim.Object(source)
		require.NoError(t, err)
		require.Equal(t, want, kept)
	}
}

// TestCron has a cron hold a revision once that is both polled and imported.
func TestCron(t *testing.T) {
	revision := `{"digest":"sha256:0"}`
	for _, imported := range []string{strings.Clone(revision), `{"digest":"sha256:1"}`} {
		cron := &cdiv1.DataImportCron{ObjectMeta: full(nil, map[string]string{golden.AnnotationPolled: revision, golden.AnnotationImported: imported})}
		want := cron.DeepCopy()
		want.ManagedFields = nil
		delete(want.Annotations, corev1.LastAppliedConfigAnnotation)
		kept, err := trim.Object(cron)
		require.NoError(t, err)
		require.Equal(t, want, kept)
		o, ok := kept.(metav1.Object)
		require.True(t, ok)
		now := o.GetAnnotations()
		one := unsafe.StringData(now[golden.AnnotationPolled]) == unsafe.StringData(now[golden.AnnotationImported])
		require.Equal(t, imported == revision, one)
	}
}

// TestWhatIsNoObject: a cache hands over the note that an object is gone, too.
func TestWhatIsNoObject(t *testing.T) {
	gone := toolscache.DeletedFinalStateUnknown{Key: "vms/disk"}
	kept, err := trim.Object(gone)
	require.NoError(t, err)
	require.Equal(t, gone, kept)
}
