package roller

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

// annotationSingleWriter on a StorageProfile asks for ReadWriteOnce on golden claims.
const annotationSingleWriter = "cdi.kubevirt.io/useReadWriteOnceForDataImportCron"

// claimFor is the golden claim of a revision on a StorageClass.
func claimFor(cron *cdiv1.DataImportCron, revision *golden.Revision, class string, facts claimshape.Facts) (*corev1.PersistentVolumeClaim, error) {
	template := &cron.Spec.Template
	shape, err := claimshape.Of(&template.Spec, facts)
	if err != nil {
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cron.Namespace, Name: golden.ClaimName(cron.Spec.ManagedDataSource, revision.Digest),
			Labels:      passedOn(template.Labels),
			Annotations: passedOn(template.Annotations),
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: shape.AccessModes, VolumeMode: &shape.VolumeMode, Resources: shape.Resources, StorageClassName: &class,
			DataSourceRef: &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.CronKind, Name: cron.Name},
		},
	}
	setLabels(&claim.ObjectMeta, cron)
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, golden.AnnotationRevision, revision.String())
	metav1.SetMetaDataAnnotation(&claim.ObjectMeta, golden.AnnotationBindImmediately, "true")
	return claim, nil
}

// setLabels marks an object as the cron's and gives it the cron's labels that KubeVirt knows.
func setLabels(o *metav1.ObjectMeta, cron *cdiv1.DataImportCron) {
	for key, value := range cron.Labels {
		if golden.PassesLabel(key) {
			metav1.SetMetaDataLabel(o, key, value)
		}
	}
	metav1.SetMetaDataLabel(o, golden.LabelCron, cron.Name)
	if goesWithCron(cron) {
		metav1.SetMetaDataLabel(o, golden.LabelCleanup, "true")
	} else {
		delete(o.Labels, golden.LabelCleanup)
	}
}

// goesWithCron reports whether golden claims and the DataSource are deleted with the cron.
func goesWithCron(cron *cdiv1.DataImportCron) bool {
	return ptr.Deref(cron.Spec.RetentionPolicy, cdiv1.DataImportCronRetainAll) == cdiv1.DataImportCronRetainNone
}

// passedOn is what a template's labels or annotations give to the claim: all that nobody has a
// meaning of their own for. A claim that is made with the marks of Kubernetes or of ours would
// be taken for one that is bound, placed or verified already.
func passedOn(from map[string]string) map[string]string {
	to := map[string]string{}
	for key, value := range from {
		domain, _, _ := strings.Cut(key, "/")
		if !slices.Contains([]string{
			"gild.dev", golden.Group, "virtualization.k8s.io",
			"pv.kubernetes.io", "volume.kubernetes.io", "volume.beta.kubernetes.io", "kubectl.kubernetes.io",
		}, domain) {
			to[key] = value
		}
	}
	return to
}

// sameShape reports whether a claim is what would be made now.
func sameShape(claim, wanted *corev1.PersistentVolumeClaim) bool {
	has, wants := claim.Spec.Resources.Requests[corev1.ResourceStorage], wanted.Spec.Resources.Requests[corev1.ResourceStorage]
	return has.Cmp(wants) == 0 && slices.Equal(claim.Spec.AccessModes, wanted.Spec.AccessModes) &&
		ptr.Deref(claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) == ptr.Deref(wanted.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
}

// sameImport reports whether two revisions are imported in the same way.
func sameImport(a, b *golden.Revision) bool {
	return a.Digest == b.Digest && a.Checksum == b.Checksum && equality.Semantic.DeepEqual(a.Source, b.Source) &&
		equality.Semantic.DeepEqual(a.Pin, b.Pin) && equality.Semantic.DeepEqual(a.Claim, b.Claim)
}
