package roller

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

var update = flag.Bool("update", false, "write the golden files anew")

func profileOf(sets ...cdiv1.ClaimPropertySet) *cdiv1.StorageProfile {
	return &cdiv1.StorageProfile{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Status: cdiv1.StorageProfileStatus{ClaimPropertySets: sets}}
}

func set(mode corev1.PersistentVolumeMode, access ...corev1.PersistentVolumeAccessMode) cdiv1.ClaimPropertySet {
	return cdiv1.ClaimPropertySet{VolumeMode: &mode, AccessModes: access}
}

func sized(size string) corev1.VolumeResourceRequirements {
	return corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}
}

// TestClaimFor compares golden claims with files. go test -update writes them.
func TestClaimFor(t *testing.T) {
	copied := &golden.Revision{Digest: "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", Claim: &golden.Claim{Namespace: "golden-images", Name: "gold", UID: "7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"}}
	for name, test := range map[string]struct {
		cron     func(*cdiv1.DataImportCron)
		revision *golden.Revision
		profile  *cdiv1.StorageProfile
		origin   *corev1.PersistentVolumeClaim
	}{
		"storage": {revision: revisionOf("a")},
		"storage-profiled": {
			revision: &golden.Revision{Digest: digestOf("a"), Index: digestOf("b"), Source: v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/disk@" + digestOf("a")}}},
			profile:  profileOf(set(corev1.PersistentVolumeBlock, corev1.ReadWriteMany), set(corev1.PersistentVolumeFilesystem, corev1.ReadWriteOnce)),
		},
		"pvc": {revision: revisionOf("a"), cron: func(cron *cdiv1.DataImportCron) {
			cron.Spec.Template.Spec.Storage = nil
			cron.Spec.Template.Spec.PVC = &corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock), Resources: sized("5Gi"),
			}
		}},
		"copied": {revision: copied, cron: func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Storage.Resources.Requests = nil },
			origin: &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{Resources: sized("2Gi")},
				Status: corev1.PersistentVolumeClaimStatus{Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("3Gi")}}}},
		"labelled": {revision: revisionOf("a"), cron: func(cron *cdiv1.DataImportCron) {
			cron.Spec.RetentionPolicy = ptr.To(cdiv1.DataImportCronRetainNone)
			cron.Labels = map[string]string{
				"instancetype.kubevirt.io/default-instancetype": "u1.medium", "kubevirt.io/dynamic-credentials-support": "true",
				"team": "images", golden.LabelCron: "another",
			}
			cron.Spec.Template.Labels = map[string]string{"app.kubernetes.io/part-of": "images", golden.LabelCron: "another", "gild.dev/x": "y"}
			cron.Spec.Template.Annotations = map[string]string{
				"example.org/note": "kept", golden.AnnotationVerified: "true", "pv.kubernetes.io/bind-completed": "yes",
				"volume.kubernetes.io/selected-node": "node-1", golden.AnnotationLastUseTime: "now", "kubectl.kubernetes.io/last-applied-configuration": "{}",
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			cron := testCron()
			if test.cron != nil {
				test.cron(cron)
			}
			before := cron.DeepCopy()
			w := &world{cron: cron, profile: test.profile, origin: test.origin}
			claim, err := claimFor(cron, test.revision, "fast", w.facts("fast"))
			require.NoError(t, err)
			require.Equal(t, before, cron)
			got, err := yaml.Marshal(claim)
			require.NoError(t, err)
			path := filepath.Join("testdata", "claim-"+name+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(path, got, 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))
		})
	}
}

// A profile may ask for one writer, where the template does not say how many there are.
func TestSingleWriter(t *testing.T) {
	w := &world{cron: testCron(), profile: profileOf(set(corev1.PersistentVolumeBlock, corev1.ReadWriteMany))}
	w.profile.Annotations = map[string]string{annotationSingleWriter: "true"}
	claim, err := claimFor(w.cron, revisionOf("a"), "fast", w.facts("fast"))
	require.NoError(t, err)
	require.Equal(t, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, claim.Spec.AccessModes)
	require.Equal(t, corev1.PersistentVolumeBlock, *claim.Spec.VolumeMode)
}
