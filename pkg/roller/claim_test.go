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
			claim, err := claimFor(cron, test.revision, "fast", test.profile, test.origin)
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

func TestShape(t *testing.T) {
	rwo, rwx, rox := corev1.ReadWriteOnce, corev1.ReadWriteMany, corev1.ReadOnlyMany
	file, block := corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeBlock
	both := profileOf(set(block, rwx), set(file, rwo, rox))
	single := profileOf(set(block, rwx))
	single.Annotations = map[string]string{annotationSingleWriter: "true"}
	for _, test := range []struct {
		name    string
		storage cdiv1.StorageSpec
		profile *cdiv1.StorageProfile
		access  corev1.PersistentVolumeAccessMode
		mode    corev1.PersistentVolumeMode
		size    string
	}{
		{"nothing said", cdiv1.StorageSpec{Resources: sized("100Mi")}, nil, rwo, file, "106Mi"},
		{"an empty profile", cdiv1.StorageSpec{Resources: sized("100Mi")}, profileOf(), rwo, file, "106Mi"},
		{"the first set", cdiv1.StorageSpec{Resources: sized("100Mi")}, both, rwx, block, "100Mi"},
		{"one writer is asked for", cdiv1.StorageSpec{Resources: sized("100Mi")}, single, rwo, block, "100Mi"},
		{"one writer is asked for, the template says otherwise", cdiv1.StorageSpec{Resources: sized("100Mi"), AccessModes: []corev1.PersistentVolumeAccessMode{rwx}}, single, rwx, block, "100Mi"},
		{"the set of the mode", cdiv1.StorageSpec{Resources: sized("100Mi"), VolumeMode: &file}, both, rwo, file, "106Mi"},
		{"the set of the access", cdiv1.StorageSpec{Resources: sized("100Mi"), AccessModes: []corev1.PersistentVolumeAccessMode{rox}}, both, rox, file, "106Mi"},
		{"no set has it", cdiv1.StorageSpec{Resources: sized("100Mi"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}}, both, corev1.ReadWriteOncePod, file, "106Mi"},
		{"all said", cdiv1.StorageSpec{Resources: sized("100Mi"), AccessModes: []corev1.PersistentVolumeAccessMode{rwx}, VolumeMode: &file}, both, rwx, file, "106Mi"},
		{"rounded up", cdiv1.StorageSpec{Resources: sized("1")}, nil, rwo, file, "1Mi"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec, err := shape(&cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{Storage: &test.storage}}, test.profile, nil)
			require.NoError(t, err)
			require.Equal(t, test.access, spec.AccessModes[0])
			require.Equal(t, test.mode, *spec.VolumeMode)
			size := spec.Resources.Requests[corev1.ResourceStorage]
			require.Equal(t, test.size, size.String())
		})
	}
	_, err := shape(&cdiv1.DataVolume{}, nil, nil)
	require.ErrorIs(t, err, errNoShape)
	_, err = shape(&cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{PVC: &corev1.PersistentVolumeClaimSpec{}}}, nil, nil)
	require.ErrorIs(t, err, errNoSize)
	spec, err := shape(&cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{PVC: &corev1.PersistentVolumeClaimSpec{Resources: sized("100Mi")}}}, both, nil)
	require.NoError(t, err)
	require.Equal(t, file, *spec.VolumeMode, "the pvc form means a file system when it does not say")
	require.Equal(t, rwo, spec.AccessModes[0])
}

func TestWithOverhead(t *testing.T) {
	for bytes, want := range map[int64]int64{
		0: 0, 1: 1 << 20, 1 << 20: 2 << 20, 100 << 20: 106 << 20, 5 << 30: 5428 << 20, 100 << 50: 106 << 50,
	} {
		got := withOverhead(*resource.NewQuantity(bytes, resource.BinarySI))
		require.Equal(t, want, got.Value(), bytes)
	}
}
