package roller

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

// start is when the tests' clocks start.
func start() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// digestOf is a digest of the digit c.
func digestOf(c string) string { return golden.PrefixSHA256 + strings.Repeat(c, 64) }

// revisionOf is a revision of the digit c.
func revisionOf(c string) *golden.Revision {
	return &golden.Revision{
		Digest: digestOf(c),
		Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example.org/fedora.qcow2"}},
		Pin:    &v1alpha1.Pin{ETag: `"` + c + `"`, Length: 7},
	}
}

func testCron() *cdiv1.DataImportCron {
	return &cdiv1.DataImportCron{
		TypeMeta:   metav1.TypeMeta{APIVersion: "cdi.kubevirt.io/v1beta1", Kind: "DataImportCron"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "golden-images", Name: "fedora-cron", UID: "cron-uid"},
		Spec: cdiv1.DataImportCronSpec{
			Template: cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{
				Source: &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: "https://images.example.org/fedora.qcow2"}},
				Storage: &cdiv1.StorageSpec{Resources: corev1.VolumeResourceRequirements{
					Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("5Gi")}}},
			}},
			Schedule: "30 1 * * 1", ManagedDataSource: "fedora",
		},
	}
}

// desiring is the cron once the poller has found a revision.
func desiring(cron *cdiv1.DataImportCron, revision *golden.Revision) *cdiv1.DataImportCron {
	metav1.SetMetaDataAnnotation(&cron.ObjectMeta, golden.AnnotationDesiredDigest, revision.Digest)
	metav1.SetMetaDataAnnotation(&cron.ObjectMeta, golden.AnnotationPolled, revision.String())
	return cron
}

func testClass(name string, annotations ...string) *storagev1.StorageClass {
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: "csi.example.org"}
	for _, key := range annotations {
		metav1.SetMetaDataAnnotation(&class.ObjectMeta, key, "true")
	}
	return class
}

// aClaim is a golden claim of a revision on class fast, as the cluster holds it before anything has
// happened to it.
func aClaim(revision *golden.Revision, changes ...func(*goldenClaim)) *goldenClaim {
	cron := testCron()
	claim, err := claimFor(cron, revision, "fast", claimshape.Facts{Overhead: claimshape.DefaultOverhead})
	if err != nil {
		return nil
	}
	claim.CreationTimestamp = metav1.NewTime(start())
	claim.UID = types.UID("uid of " + claim.Name)
	claim.Status.Phase = corev1.ClaimPending
	c := &goldenClaim{PersistentVolumeClaim: claim, revision: revision}
	for _, change := range changes {
		change(c)
	}
	return c
}

func onSlow(c *goldenClaim) { c.Spec.StorageClassName = ptr.To("slow") }

func named(name string) func(*goldenClaim) {
	return func(c *goldenClaim) { c.Name = name }
}

// importing gives a claim an import in a phase.
func importing(phase v1alpha1.ImportPhase, attempts int32) func(*goldenClaim) {
	return func(c *goldenClaim) {
		c.imp = &v1alpha1.VMDiskImport{
			ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Name, UID: "import-uid"},
			Status:     v1alpha1.VMDiskImportStatus{Phase: phase, Attempts: attempts},
		}
	}
}

// failing gives a claim an import that has failed some time ago.
func failing(reason string, ago time.Duration) func(*goldenClaim) {
	return func(c *goldenClaim) {
		importing(v1alpha1.PhaseFailed, 1)(c)
		c.imp.Status.LastFailure = &v1alpha1.ImportFailure{Reason: reason, Message: "it broke", Time: metav1.NewTime(start().Add(-ago))}
		c.imp.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: "it broke"}}
	}
}

// counted says that the failure of a claim's import has been counted.
func counted(n int) func(*goldenClaim) {
	return func(c *goldenClaim) {
		name, _ := failureOf(c.imp)
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, annotationFailures, failures{Count: n, Last: name}.String())
	}
}

// filled binds a claim to the volume that its import has filled with bytes of a digest.
func filled(digest string) func(*goldenClaim) {
	return func(c *goldenClaim) {
		importing(v1alpha1.PhaseSucceeded, 1)(c)
		c.Spec.VolumeName, c.Status.Phase = "pv-"+c.Name, corev1.ClaimBound
		c.imp.Status.VolumeName = c.Spec.VolumeName
		c.imp.Status.Result = &v1alpha1.ImportResult{Digest: digest}
	}
}

// goodSince is a claim that is verified, and was used last some time ago.
func goodSince(ago time.Duration) func(*goldenClaim) {
	return func(c *goldenClaim) {
		bytes := "sha256:bytes of " + c.revision.Digest
		filled(bytes)(c)
		c.imp = nil
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, golden.AnnotationVerified, bytes)
		metav1.SetMetaDataAnnotation(&c.ObjectMeta, golden.AnnotationLastUseTime, start().Add(-ago).Format(time.RFC3339Nano))
	}
}

func going(c *goldenClaim) { c.DeletionTimestamp = ptr.To(metav1.NewTime(start())) }

func lost(c *goldenClaim) { c.Status.Phase = corev1.ClaimLost }

// worldOf is a world whose cron has the finalizer and wants class fast.
func worldOf(desired *golden.Revision, claims ...*goldenClaim) *world {
	cron := testCron()
	cron.Finalizers = []string{Finalizer}
	w := &world{cron: cron, desired: desired, claims: claims, class: "fast", now: start()}
	if desired != nil {
		desiring(cron, desired)
	}
	return w
}

// pointed has the DataSource name a claim.
func (w *world) pointed(claim *goldenClaim) *world {
	w.dataSource, _ = dataSourceFor(w, claim)
	w.dataSource.UID = "source-uid"
	return w
}

// settled has the cron's status name a claim as the import of a revision.
func (w *world) settled(claim *goldenClaim, imported *golden.Revision) *world {
	w.pointed(claim)
	w.cron.Status.LastImportedPVC = &cdiv1.DataVolumeSourcePVC{Namespace: claim.Namespace, Name: claim.Name}
	w.cron.Status.LastImportTimestamp = ptr.To(metav1.NewTime(start().Add(-time.Hour)))
	w.cron.Status.CurrentImports = []cdiv1.ImportStatus{{DataVolumeName: claim.Name, Digest: imported.Digest}}
	w.cron.Status.SourceFormat = ptr.To(cdiv1.DataImportCronSourceFormatPvc)
	w.imported = imported
	metav1.SetMetaDataAnnotation(&w.cron.ObjectMeta, golden.AnnotationImported, imported.String())
	setCondition(w.cron, cdiv1.DataImportCronProgressing, corev1.ConditionFalse, reasonNoImport, messageNoImport, start().Add(-time.Hour))
	setCondition(w.cron, cdiv1.DataImportCronUpToDate, corev1.ConditionTrue, reasonUpToDate, messageUpToDate, start().Add(-time.Hour))
	return w
}
