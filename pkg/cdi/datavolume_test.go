package cdi_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gild-project/gild/test/definition"
)

const (
	fromSnapshot   = `snapshot: {namespace: images, name: disk}`
	fromBlank      = `blank: {}`
	fromDataSource = `sourceRef: {kind: DataSource, name: fedora}`
)

// volumeFrom is a DataVolume with a source, made of a valid one: change is merged into its spec.
func volumeFrom(t *testing.T, source, change string) *unstructured.Unstructured {
	t.Helper()
	object := definition.Parse(t, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataVolume, metadata: {name: web-1, namespace: vms}, spec: {
		storage: {resources: {requests: {storage: 5Gi}}}}}`)
	if source != "" {
		merge(object.Object, definition.Parse(t, `{kind: DataVolume, spec: {source: {`+source+`}}}`).Object)
	}
	merge(object.Object, definition.Parse(t, `{kind: DataVolume, spec: {`+change+`}}`).Object)
	return object
}

func TestDataVolumes(t *testing.T) {
	const pvc = `storage: null, pvc: {`
	const sized = `resources: {requests: {storage: 5Gi}}`
	refusals{
		"http":                      {fromHTTP, ``, ""},
		"registry":                  {fromRegistry, ``, ""},
		"an image stream":           {fromStream, ``, ""},
		"a claim":                   {fromClaim, ``, ""},
		"a snapshot":                {fromSnapshot, ``, ""},
		"blank":                     {fromBlank, ``, ""},
		"a DataSource":              {``, fromDataSource, ""},
		"a DataSource elsewhere":    {``, `sourceRef: {kind: DataSource, name: fedora, namespace: golden-images}`, ""},
		"no source":                 {``, ``, "Data volume should have either Source or SourceRef"},
		"both":                      {fromHTTP, fromDataSource, "Data volume should have either Source or SourceRef"},
		"an empty source":           {``, `source: {}`, "Missing Data volume source"},
		"two sources":               {fromHTTP + `, ` + fromBlank, ``, "Multiple Data volume sources"},
		"upload":                    {`upload: {}`, ``, "source upload is not supported: serve the image from a web server"},
		"imageio":                   {`imageio: {url: "https://ovirt.example.org", diskId: a}`, ``, "source imageio is not supported: export the disk"},
		"vddk":                      {`vddk: {url: "https://vcenter.example.org"}`, ``, "source vddk is not supported: export the disk"},
		"s3":                        {`s3: {url: "https://s3.example.org/disk"}`, ``, "source s3 is not supported: name the object's https:// URL"},
		"gcs":                       {`gcs: {url: "gs://images/disk"}`, ``, "source gcs is not supported: name the object's https:// URL"},
		"an unknown source":         {`ftp: {url: "ftp://images.example.org/disk"}`, ``, "unknown field"},
		"checkpoints":               {fromHTTP, `checkpoints: [{previous: a, current: b}]`, "checkpoints are not supported"},
		"no checkpoints":            {fromHTTP, `checkpoints: [], finalCheckpoint: false`, ""},
		"finalCheckpoint":           {fromHTTP, `finalCheckpoint: true`, "finalCheckpoint is not supported"},
		"kubevirt":                  {fromHTTP, `contentType: kubevirt`, ""},
		"archive":                   {fromHTTP, `contentType: archive`, "contentType archive is not supported"},
		"what CDI allows":           {fromHTTP, `preallocation: true, priorityClassName: a, serviceAccountName: b`, ""},
		"another kind":              {``, `sourceRef: {kind: VMDiskImage, name: fedora}`, "Unsupported sourceRef kind, currently only DataSource is supported"},
		"a DataSource of no name":   {``, `sourceRef: {kind: DataSource, name: ""}`, "Missing sourceRef name"},
		"a claim of no name":        {`pvc: {namespace: a, name: ""}`, ``, "source PVC is not valid"},
		"a snapshot of no name":     {`snapshot: {namespace: a, name: ""}`, ``, "source Snapshot is not valid"},
		"a password":                {`http: {url: "https://me:secret@images.example.org/disk"}`, ``, "put them in a Secret"},
		"ftp":                       {`http: {url: "ftp://images.example.org/disk"}`, ``, "only http:// and https:// are read here"},
		"md5":                       {`http: {url: "https://images.example.org/disk", checksum: "md5:d41d8cd98f00b204e9800998ecf8427e"}`, ``, "md5 and sha1 prove nothing"},
		"an archive of an image":    {`registry: {url: "oci-archive:///disk.tar"}`, ``, "must be pushed to a registry first"},
		"neither form":              {fromHTTP, `storage: null`, "Missing Data volume PVC"},
		"both forms":                {fromHTTP, `pvc: {` + sized + `}`, "Duplicate storage definition"},
		"pvc":                       {fromHTTP, pvc + `accessModes: [ReadWriteOnce], volumeMode: Block, storageClassName: fast, ` + sized + `}`, ""},
		"pvc of no size":            {fromHTTP, pvc + `accessModes: [ReadWriteOnce]}`, "PVC size is missing"},
		"pvc of no size, copied":    {fromClaim, pvc + `accessModes: [ReadWriteOnce]}`, "PVC size is missing"},
		"pvc of size 0":             {fromHTTP, pvc + `resources: {requests: {storage: "0"}}}`, "PVC size can't be equal or less than zero"},
		"pvc of a small size":       {fromHTTP, pvc + `resources: {requests: {storage: 1Ki}}}`, "PVC size should be at least 1MiB"},
		"pvc of two modes":          {fromHTTP, pvc + `accessModes: [ReadWriteOnce, ReadOnlyMany], ` + sized + `}`, "PVC multiple accessModes"},
		"pvc with a volume":         {fromHTTP, pvc + `volumeName: pv-1, ` + sized + `}`, "volumeName does not go with a DataVolume"},
		"storage of no size":        {fromHTTP, `storage: {resources: null}`, "Storage size is missing"},
		"storage of no size, blank": {fromBlank, `storage: {resources: null}`, "Storage size is missing"},
		"storage of a claim's size": {fromClaim, `storage: {resources: null}`, ""},
		"of a snapshot's size":      {fromSnapshot, `storage: {resources: null}`, ""},
		"of a DataSource's size":    {``, fromDataSource + `, storage: {resources: null}`, ""},
		"an empty class":            {fromHTTP, `storage: {storageClassName: ""}`, "storageClassName must not be empty"},
		"an unknown mode":           {fromHTTP, `storage: {accessModes: [rwo]}`, "Unsupported value in accessModes"},
		"filled by another":         {``, `storage: {dataSourceRef: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: debian-12}}`, ""},
		"restored":                  {``, pvc + sized + `, dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: disk}}`, ""},
		"filled twice":              {fromHTTP, `storage: {dataSourceRef: {apiGroup: virtualization.k8s.io, kind: VMDiskImage, name: debian-12}}`, "External population is incompatible"},
	}.run(t, "datavolumes", volumeFrom)
}

func TestDataVolumesCannotBeEdited(t *testing.T) {
	volumes := loadKind(t, "datavolumes")
	before := volumeFrom(t, fromHTTP, ``)
	after := before.DeepCopy()
	after.SetAnnotations(map[string]string{"foo": "bar"})
	require.NoError(t, unstructured.SetNestedField(after.Object, "Succeeded", "status", "phase"))
	require.NoError(t, volumes.Update(t.Context(), after, before))
	require.NoError(t, unstructured.SetNestedField(after.Object, "https://images.example.org/other", "spec", "source", "http", "url"))
	require.ErrorContains(t, volumes.Update(t.Context(), after, before), "Cannot update DataVolume Spec")
}

// TestSeedDataVolume takes the manifest of CDI's documentation as it is.
func TestSeedDataVolume(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "seed-datavolume.yaml"))
	require.NoError(t, err)
	require.NoError(t, loadKind(t, "datavolumes").Create(t.Context(), definition.Parse(t, string(data))))
}

func TestDataVolumeColumns(t *testing.T) {
	volumes := loadKind(t, "datavolumes")
	var names []string
	for _, column := range volumes.Definition.Spec.Versions[0].AdditionalPrinterColumns {
		names = append(names, column.Name)
	}
	require.Equal(t, []string{"Phase", "Progress", "Restarts", "Age"}, names)
	object := volumeFrom(t, fromHTTP, ``)
	merge(object.Object, definition.Parse(t, `{kind: DataVolume, status: {phase: ImportInProgress, progress: "42.50%", restartCount: 1}}`).Object)
	require.Equal(t, "ImportInProgress", volumes.Column(t, object, "Phase"))
	require.Equal(t, "42.50%", volumes.Column(t, object, "Progress"))
	require.Equal(t, "1", volumes.Column(t, object, "Restarts"))
}

// What Gild ships of the kind CDI is for KubeVirt to see that there is none; one that an operator of CDI makes is taken as it is.
func TestInstallationsAreTaken(t *testing.T) {
	object := definition.Parse(t, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: CDI, metadata: {name: cdi}, spec: {imagePullPolicy: IfNotPresent, infra: {nodeSelector: {kubernetes.io/os: linux}}}}`)
	before := object.DeepCopy()
	require.NoError(t, loadKind(t, "cdis").Create(t.Context(), object))
	require.Equal(t, before, object)
}

func TestCDIConfigs(t *testing.T) {
	configs := loadKind(t, "cdiconfigs")
	config := func(percent string) *unstructured.Unstructured {
		return definition.Parse(t, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: CDIConfig, metadata: {name: config}, spec: {filesystemOverhead: {global: "`+percent+`", storageClass: {fast: "0.1"}}}}`)
	}
	require.NoError(t, configs.Create(t.Context(), config("0.06")))
	require.Error(t, configs.Create(t.Context(), config("6%")))
}
