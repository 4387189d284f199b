package roller

import (
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

const (
	// annotationSingleWriter on a StorageProfile asks for ReadWriteOnce on golden claims.
	annotationSingleWriter = "cdi.kubevirt.io/useReadWriteOnceForDataImportCron"
	// overheadPercent of the size of a disk is added for the file system around it, as CDI does.
	overheadPercent = 6
	// claimUnit is what sizes are rounded up to.
	claimUnit = 1 << 20
)

var (
	errNoShape = errors.New("the template has neither pvc nor storage: say how large the golden claim is")
	errNoSize  = errors.New("the template does not say how large the golden claim is: set resources.requests.storage")
)

// claimFor is the golden claim of a revision on a StorageClass. profile may be nil; origin is
// the claim that is copied, nil for other sources.
func claimFor(cron *cdiv1.DataImportCron, revision *golden.Revision, class string, profile *cdiv1.StorageProfile, origin *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	template := &cron.Spec.Template
	spec, err := shape(template, profile, origin)
	if err != nil {
		return nil, err
	}
	spec.StorageClassName = &class
	spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.CronKind, Name: cron.Name}
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cron.Namespace, Name: golden.ClaimName(cron.Spec.ManagedDataSource, revision.Digest),
			Labels:      passedOn(template.Labels),
			Annotations: passedOn(template.Annotations),
		},
		Spec: *spec,
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

// shape is the size, the access and the mode of a golden claim.
func shape(template *cdiv1.DataVolume, profile *cdiv1.StorageProfile, origin *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaimSpec, error) {
	spec := &corev1.PersistentVolumeClaimSpec{}
	switch pvc, storage := template.Spec.PVC, template.Spec.Storage; {
	case pvc != nil:
		spec.AccessModes, spec.Resources = slices.Clone(pvc.AccessModes), *pvc.Resources.DeepCopy()
		spec.VolumeMode = ptr.To(ptr.Deref(pvc.VolumeMode, corev1.PersistentVolumeFilesystem))
	case storage != nil:
		spec.AccessModes, spec.VolumeMode, spec.Resources = slices.Clone(storage.AccessModes), storage.VolumeMode, *storage.Resources.DeepCopy()
	default:
		return nil, errNoShape
	}
	complete(spec, profile)
	size, ok := spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case !ok && origin == nil:
		return nil, errNoSize
	case !ok:
		size = origin.Spec.Resources.Requests[corev1.ResourceStorage]
		if bound, ok := origin.Status.Capacity[corev1.ResourceStorage]; ok {
			size = bound // a copy may not be smaller than what it is copied from
		}
	case template.Spec.Storage != nil && *spec.VolumeMode == corev1.PersistentVolumeFilesystem:
		size = withOverhead(size)
	}
	if spec.Resources.Requests == nil {
		spec.Resources.Requests = corev1.ResourceList{}
	}
	spec.Resources.Requests[corev1.ResourceStorage] = size
	return spec, nil
}

// complete fills in what the template leaves open: what the StorageProfile of the class prefers,
// else one node's reading and writing of a file system, which every driver can do.
func complete(spec *corev1.PersistentVolumeClaimSpec, profile *cdiv1.StorageProfile) {
	preferred := preference(spec, profile)
	if len(spec.AccessModes) == 0 {
		spec.AccessModes = preferred.AccessModes
		if profile != nil && profile.Annotations[annotationSingleWriter] == "true" {
			spec.AccessModes = nil
		}
	}
	if len(spec.AccessModes) == 0 {
		spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	}
	if spec.VolumeMode == nil {
		spec.VolumeMode = ptr.To(ptr.Deref(preferred.VolumeMode, corev1.PersistentVolumeFilesystem))
	}
}

// preference is the first set of the profile that has what the template asks for, empty when
// none does.
func preference(spec *corev1.PersistentVolumeClaimSpec, profile *cdiv1.StorageProfile) cdiv1.ClaimPropertySet {
	if profile == nil {
		return cdiv1.ClaimPropertySet{}
	}
	for _, set := range profile.Status.ClaimPropertySets {
		hasMode := spec.VolumeMode == nil || ptr.Deref(set.VolumeMode, corev1.PersistentVolumeFilesystem) == *spec.VolumeMode
		hasAccess := !slices.ContainsFunc(spec.AccessModes, func(mode corev1.PersistentVolumeAccessMode) bool { return !slices.Contains(set.AccessModes, mode) })
		if hasMode && hasAccess {
			return *set.DeepCopy()
		}
	}
	return cdiv1.ClaimPropertySet{}
}

// withOverhead is the size of a volume whose file system holds a disk of a size.
func withOverhead(disk resource.Quantity) resource.Quantity {
	bytes := disk.Value()
	bytes += bytes/100*overheadPercent + (bytes%100*overheadPercent+99)/100
	units := (bytes + claimUnit - 1) / claimUnit
	return *resource.NewQuantity(units*claimUnit, resource.BinarySI)
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
