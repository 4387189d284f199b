package populator

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/snapshot"
)

// revisionA and revisionB are two states of a file on a web server.
func revisionA() *golden.Revision { return testRevision(`"a"`) }
func revisionB() *golden.Revision { return testRevision(`"b"`) }

func testRevision(etag string) *golden.Revision {
	url := "https://images.example.org/debian-12.qcow2"
	pin := &v1alpha1.Pin{ETag: etag, LastModified: "Tue, 30 Apr 2024 13:22:27 GMT", Length: 356515840}
	return &golden.Revision{
		Digest: golden.ValidatorDigest(url, pin), Pin: pin,
		Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: url}},
	}
}

// testCron has polled one revision and imported another; nil is none.
func testCron(polled, imported *golden.Revision) *cdiv1.DataImportCron {
	cron := &cdiv1.DataImportCron{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: sourceName, UID: "cron-uid", Finalizers: []string{"gild.dev/cron"}},
		Spec: cdiv1.DataImportCronSpec{ServiceAccountName: ptr.To("cloner")}}
	for annotation, revision := range map[string]*golden.Revision{golden.AnnotationPolled: polled, golden.AnnotationImported: imported} {
		if revision != nil {
			metav1.SetMetaDataAnnotation(&cron.ObjectMeta, annotation, revision.String())
		}
	}
	return cron
}

// cronSpec is what the import of a claim does that refers to a cron.
func cronSpec(t *testing.T, claim *corev1.PersistentVolumeClaim, cron *cdiv1.DataImportCron) *v1alpha1.VMDiskImportSpec {
	t.Helper()
	spec, waiting, err := resolveCron(t.Context(), seen(t), claim, cron)
	require.NoError(t, err)
	require.Nil(t, waiting)
	return spec
}

// seen are readers of a few objects.
func seen(t *testing.T, objects ...client.Object) readers {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme, cdi.AddToScheme, snapshot.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	store := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	return readers{store, store}
}

// cronClaim is a user's claim that refers to the cron.
func cronClaim() *corev1.PersistentVolumeClaim {
	claim := testClaim()
	claim.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.CronKind, Name: sourceName}
	return claim
}

// goldenClaim is the claim that is made to hold a revision.
func goldenClaim(revision *golden.Revision) *corev1.PersistentVolumeClaim {
	claim := cronClaim()
	claim.Labels = map[string]string{golden.LabelCron: sourceName}
	claim.Annotations = map[string]string{golden.AnnotationRevision: revision.String(), golden.AnnotationBindImmediately: "true"}
	return claim
}
