package datavolume

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/test/definition"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMade compares what is made for DataVolumes with files. go test -update writes them.
func TestMade(t *testing.T) {
	kinds := map[string]*definition.Kind{
		"VMDiskImage": definition.Load(t, filepath.Join("..", "..", "deploy", "crds", "virtualization.k8s.io_vmdiskimages.yaml")),
		"DataSource":  definition.Load(t, filepath.Join("..", "..", "deploy", "cdi", "crds", "cdi.kubevirt.io_datasources.yaml")),
	}
	copied := func(to cdiv1.DataSourceSource) *origin {
		return &origin{source: &to, size: claimshape.OriginOf(gold("vms")), labels: gold("vms").Labels}
	}
	for name, test := range map[string]struct {
		source, form string
		change       func(*view)
	}{
		"http": {`source: {http: {url: "https://images.example.org/disk", secretRef: login, certConfigMap: authorities, extraHeaders: ["Accept: */*"],
			secretExtraHeaders: [header], checksum: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}`, storage, nil},
		"registry": {`source: {registry: {url: "docker://registry.example.org/disks/fedora:40", secretRef: login, certConfigMap: authorities, platform: {architecture: arm64}}}`, storage, nil},
		"registry-node": {`source: {registry: {imageStream: "fedora:40", pullMethod: node, certConfigMap: authorities}}`,
			`pvc: {accessModes: [ReadWriteMany], volumeMode: Block, storageClassName: fast, resources: {requests: {storage: 100Mi}}}`, nil},
		"blank":       {`source: {blank: {}}`, storage, nil},
		"blank-pvc":   {`source: {blank: {}}`, `pvc: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 106Mi}}}`, nil},
		"blank-block": {`source: {blank: {}}`, `pvc: {accessModes: [ReadWriteOnce], volumeMode: Block, resources: {requests: {storage: 100Mi}}}`, nil},
		"pvc": {fromForeign, unsized, func(v *view) {
			v.origin = copied(cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "images", Name: "gold"}})
		}},
		"snapshot": {fromSnapshot, storage, func(v *view) {
			v.origin = copied(cdiv1.DataSourceSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: "vms", Name: "gold"}})
		}},
		"sourceref": {fromDataSource, unsized, func(v *view) {
			v.origin = copied(cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "vms", Name: "gold"}})
		}},
		"sourceref-elsewhere": {fromElsewhere, storage, func(v *view) {
			v.origin = copied(cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "images", Name: "gold"}})
		}},
		"profiled": {fromHTTP, storage, func(v *view) {
			v.profile = &cdiv1.StorageProfile{Status: cdiv1.StorageProfileStatus{ClaimPropertySets: []cdiv1.ClaimPropertySet{
				{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, VolumeMode: ptr.To(corev1.PersistentVolumeBlock)}}}}
		}},
		"overhead": {fromHTTP, storage, func(v *view) {
			v.config = &cdiv1.CDIConfig{Spec: cdiv1.CDIConfigSpec{FilesystemOverhead: &cdiv1.FilesystemOverhead{StorageClass: map[string]cdiv1.Percent{"fast": "0.5"}}}}
		}},
		"external": {``, `storage: {dataSourceRef: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: debian-12}, resources: {requests: {storage: 100Mi}}}`, nil},
		"marked": {fromHTTP, storage, func(v *view) {
			v.volume.Labels = map[string]string{"kubevirt.io/created-by": "machine-uid", "team": "web", golden.LabelCron: "fedora", "gild.dev/x": "y"}
			v.volume.Annotations = map[string]string{
				golden.AnnotationBindImmediately: "true", annotationAdoption: "true", annotationPopulatedFor: "web-1", "example.org/note": "kept",
				"pv.kubernetes.io/bind-completed": "yes", annotationSelectedNode: "node-1", golden.AnnotationVerified: "true", corev1.LastAppliedConfigAnnotation: "{}",
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			source := test.source
			if source == "" {
				source = "contentType: kubevirt"
			}
			v := aView(aVolume(t, source, test.form))
			if test.change != nil {
				test.change(v)
			}
			before := v.volume.DeepCopy()
			p := decide(v)
			require.Nil(t, p.trouble)
			require.Empty(t, p.change)
			require.Empty(t, p.remove)
			require.Equal(t, before, v.volume)
			var got bytes.Buffer
			for _, object := range p.create {
				text, err := yaml.Marshal(object)
				require.NoError(t, err)
				if kind := kinds[object.GetObjectKind().GroupVersionKind().Kind]; kind != nil {
					// Whatever the API server filled in would be taken back, for ever.
					taken := definition.Parse(t, string(text))
					before := taken.DeepCopy()
					require.NoError(t, kind.Create(t.Context(), taken))
					require.Equal(t, before.Object["spec"], taken.Object["spec"])
				}
				got.WriteString("---\n")
				got.Write(text)
			}
			path := filepath.Join("testdata", name+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(path, got.Bytes(), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), got.String())
		})
	}
}
