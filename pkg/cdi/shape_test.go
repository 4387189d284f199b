package cdi_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/test/definition"
)

// plurals are the kinds that Gild ships, in the order in which they must be installed: KubeVirt waits for all
// the others as soon as there are DataVolumes.
func plurals() []string {
	return []string{"cdis", "cdiconfigs", "storageprofiles", "datasources", "dataimportcrons", "datavolumes"}
}

func TestOnlyTheKindsThatGildShips(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "cdi", "crds", "*"))
	require.NoError(t, err)
	require.Len(t, files, len(plurals()))
	kustomization, err := os.ReadFile(filepath.Join("..", "..", "deploy", "cdi", "kustomization.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(kustomization), "sortOptions: {order: fifo}\n")
	listed := -1
	for _, plural := range plurals() {
		definition := readDefinition(t, plural)
		require.Contains(t, []string{cdi.CronDefinition, cdi.SourceDefinition, cdi.ProfileDefinition, cdi.VolumeDefinition, cdi.ConfigDefinition, cdi.InstallDefinition}, definition.Name)
		require.Equal(t, map[string]string{"app.kubernetes.io/name": "gild", cdi.LabelOwned: "true"}, definition.Labels)
		at := strings.Index(string(kustomization), "- crds/cdi.kubevirt.io_"+plural+".yaml\n")
		require.Greater(t, at, listed, plural)
		listed = at
	}
}

// Annotations and status travel in one write, as with CDI.
func TestNoStatusSubresource(t *testing.T) {
	for plural, has := range map[string]bool{"dataimportcrons": false, "datasources": false, "cdiconfigs": false, "cdis": false, "storageprofiles": true, "datavolumes": true} {
		subresources := readDefinition(t, plural).Spec.Versions[0].Subresources
		require.Equal(t, has, subresources != nil && subresources.Status != nil, plural)
	}
}

func TestShortNames(t *testing.T) {
	require.Equal(t, []string{"dic", "dics"}, readDefinition(t, "dataimportcrons").Spec.Names.ShortNames)
	require.Equal(t, []string{"das"}, readDefinition(t, "datasources").Spec.Names.ShortNames)
	require.Equal(t, []string{"dv", "dvs"}, readDefinition(t, "datavolumes").Spec.Names.ShortNames)
}

func TestEachFieldIsDescribed(t *testing.T) {
	var check func(t *testing.T, path string, s *apiextensionsv1.JSONSchemaProps)
	check = func(t *testing.T, path string, s *apiextensionsv1.JSONSchemaProps) {
		for name, property := range s.Properties {
			if path != "" || name != "metadata" { // which the API server lets nobody describe
				require.NotEmpty(t, property.Description, "%s.%s", path, name)
			}
			check(t, path+"."+name, &property)
		}
		if s.Items != nil && s.Items.Schema != nil {
			check(t, path+"[]", s.Items.Schema)
		}
	}
	for _, plural := range plurals() {
		s := readDefinition(t, plural).Spec.Versions[0].Schema.OpenAPIV3Schema
		require.NotEmpty(t, s.Description)
		check(t, "", s)
	}
}

// status is a DataImportCron as our programs leave it.
func status(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	now := metav1.Time{Time: time.Date(2026, 3, 1, 1, 30, 0, 0, time.UTC)}
	condition := func(name cdiv1.DataImportCronConditionType, status corev1.ConditionStatus, reason, message string) cdiv1.DataImportCronCondition {
		return cdiv1.DataImportCronCondition{Type: name, ConditionState: cdiv1.ConditionState{
			Status: status, Reason: reason, Message: message, LastTransitionTime: now, LastHeartbeatTime: now,
		}}
	}
	cron := &cdiv1.DataImportCron{
		TypeMeta:   metav1.TypeMeta{APIVersion: "cdi.kubevirt.io/v1beta1", Kind: "DataImportCron"},
		ObjectMeta: metav1.ObjectMeta{Name: "fedora", Namespace: "golden-images", CreationTimestamp: now, Annotations: map[string]string{"gild.dev/polled": "{}"}},
		Spec: cdiv1.DataImportCronSpec{
			Template: cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{
				Source: &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: "https://images.example.org/disk"}},
				Storage: &cdiv1.StorageSpec{Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceStorage: resource.MustParse("5Gi"),
				}}},
			}},
			Schedule: "30 1 * * 1", ManagedDataSource: "fedora", ImportsToKeep: ptr.To[int32](2), GarbageCollect: ptr.To(cdiv1.DataImportCronGarbageCollectOutdated),
		},
		Status: cdiv1.DataImportCronStatus{
			CurrentImports:         []cdiv1.ImportStatus{{DataVolumeName: "fedora-9f86d081884c", Digest: digest}},
			LastImportedPVC:        &cdiv1.DataVolumeSourcePVC{Namespace: "golden-images", Name: "fedora-9f86d081884c"},
			LastExecutionTimestamp: &now, LastImportTimestamp: &now,
			Conditions: []cdiv1.DataImportCronCondition{
				condition(cdiv1.DataImportCronProgressing, corev1.ConditionFalse, "Succeeded", "Import DataVolume phase Succeeded"),
				condition(cdiv1.DataImportCronUpToDate, corev1.ConditionTrue, "UpToDate", "Latest import is up to date"),
				condition("SourcePolled", corev1.ConditionFalse, "NotFound", "the server has no such file"),
			},
		},
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(cron)
	require.NoError(t, err)
	return &unstructured.Unstructured{Object: object}
}

// What a Go program writes is taken as it is: no field is unknown, and the spellings are CDI's.
func TestWhatProgramsWrite(t *testing.T) {
	crons := loadKind(t, "dataimportcrons")
	written := status(t)
	before := written.DeepCopy()
	require.NoError(t, crons.Create(t.Context(), written))
	require.Equal(t, before, written)
	name, _, err := unstructured.NestedSlice(written.Object, "status", "currentImports")
	require.NoError(t, err)
	require.Equal(t, []any{map[string]any{"DataVolumeName": "fedora-9f86d081884c", "Digest": digest}}, name)
}

func TestColumns(t *testing.T) {
	crons := loadKind(t, "dataimportcrons")
	object := status(t)
	for name, want := range map[string]string{
		"Schedule": "30 1 * * 1", "Last Poll": "2026-03-01T01:30:00Z", "Up To Date": "True", "DataSource": "fedora", "Age": "2026-03-01T01:30:00Z",
		"Reason": "UpToDate", "Message": "Latest import is up to date", "Poll": "NotFound", "Poll Message": "the server has no such file",
	} {
		require.Equal(t, want, crons.Column(t, object, name), name)
	}
	fresh := cronFrom(t, fromHTTP, ``)
	require.Empty(t, crons.Column(t, fresh, "Up To Date"))
	require.Empty(t, crons.Column(t, fresh, "Last Poll"))

	sources := loadKind(t, "datasources")
	source := definition.Parse(t, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataSource, metadata: {name: fedora}, spec: {source: {}}, status: {
		source: {pvc: {namespace: a, name: b}}, conditions: [{type: Ready, status: "True", reason: Ready, message: DataSource is ready to be consumed}]}}`)
	for name, want := range map[string]string{"Ready": "True", "PVC": "b", "Reason": "Ready", "Namespace Of PVC": "a", "Snapshot": "", "Message": "DataSource is ready to be consumed"} {
		require.Equal(t, want, sources.Column(t, source, name), name)
	}
}

func TestStorageProfiles(t *testing.T) {
	profiles := loadKind(t, "storageprofiles")
	profile := func(mode string) *unstructured.Unstructured {
		return definition.Parse(t, `{apiVersion: cdi.kubevirt.io/v1beta1, kind: StorageProfile, metadata: {name: fast}, spec: {claimPropertySets: [{accessModes: [`+mode+`], volumeMode: Block}]}}`)
	}
	require.NoError(t, profiles.Create(t.Context(), profile("ReadWriteMany")))
	require.ErrorContains(t, profiles.Create(t.Context(), profile("Any")), "Illegal AccessMode")
}

func TestScheme(t *testing.T) {
	scheme := runtime.NewScheme()
	require.NoError(t, cdi.AddToScheme(scheme))
	for _, kind := range []string{"DataVolume", "DataVolumeList", "CDIConfig", "CDIConfigList", "DataImportCron", "DataImportCronList", "DataSource", "DataSourceList", "StorageProfile", "StorageProfileList"} {
		require.True(t, scheme.Recognizes(cdiv1.SchemeGroupVersion.WithKind(kind)), kind)
	}
	require.False(t, scheme.Recognizes(cdiv1.SchemeGroupVersion.WithKind("CDI")))
}
