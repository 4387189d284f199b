package cdi_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gild-project/gild/test/definition"
)

// The cases of CDI's own webhook for DataImportCrons, in its order. The one that differs: a spec may be edited.
func TestCasesOfCDI(t *testing.T) {
	crons := loadKind(t, "dataimportcrons")
	const url = `registry: {url: "docker://registry:5000/test"}`
	const volume = `template: {spec: {storage: null, pvc: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}}}`
	for _, test := range []struct{ name, source, change, refused string }{
		{"accept a URL", url, ``, ""},
		{"accept an ImageStream and node", `registry: {imageStream: test-is, pullMethod: node}`, ``, ""},
		{"reject an ImageStream and pod", `registry: {imageStream: test-is}`, ``, "ImageStream is supported only with node"},
		{"reject neither URL nor ImageStream", `registry: {}`, ``, "either URL or ImageStream"},
		{"reject no registry", `registry: null`, ``, "Missing source"},
		{"reject no source", ``, `template: {spec: {source: null}}`, "Missing source"},
		{"reject an unsettable template field", url, `template: {spec: {sourceRef: {kind: DataSource, name: noname}}}`, "Unsettable fields: SourceRef"},
		{"reject both URL and ImageStream", `registry: {url: "docker://registry:5000/test", imageStream: test-is}`, ``, "either URL or ImageStream"},
		{"reject an illegal URL", `registry: {url: invalidurl}`, ``, "Illegal registry source URL"},
		{"reject an illegal transport", `registry: {url: "joker://registry:5000/test"}`, ``, "Illegal registry source URL scheme"},
		{"reject an illegal importMethod", `registry: {url: "docker://registry:5000/test", pullMethod: nosuch}`, ``, "ImportMethod"},
		{"reject an illegal cron schedule", url, `schedule: "61 * * * *"`, "Illegal cron schedule"},
		{"allow an empty cron schedule", url, `schedule: ""`, ""},
		{"reject an illegal ManagedDataSource", url, `managedDataSource: ""`, "Illegal ManagedDataSource value"},
		{"reject an illegal ImportsToKeep", url, `importsToKeep: -1`, "Illegal ImportsToKeep value"},
		{"reject an illegal GarbageCollect", url, `garbageCollect: nosuch`, "Illegal GarbageCollect value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			object := cronFrom(t, test.source, volume)
			merge(object.Object, definition.Parse(t, `{kind: DataImportCron, spec: {`+test.change+`}}`).Object)
			err := crons.Create(t.Context(), object)
			if test.refused == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.refused)
		})
	}
	t.Run("reject a long name", func(t *testing.T) {
		object := cronFrom(t, url, volume)
		object.SetName("the-name-length-of-this-dataimportcron-is-longer-then-253-characters" + strings.Repeat("123456789-", 20))
		require.ErrorContains(t, crons.Create(t.Context(), object), "Name cannot be longer than 63 characters")
	})
	for name, edit := range map[string]func(*unstructured.Unstructured) error{
		"accept an edit of the spec": func(object *unstructured.Unstructured) error {
			return unstructured.SetNestedField(object.Object, "docker://registry:5000/other", "spec", "template", "spec", "source", "registry", "url")
		},
		"accept an edit of the metadata": func(object *unstructured.Unstructured) error {
			object.SetAnnotations(map[string]string{"foo": "bar"})
			return nil
		},
		"accept an edit of the status": func(object *unstructured.Unstructured) error {
			return unstructured.SetNestedSlice(object.Object, []any{map[string]any{"DataVolumeName": "dv", "Digest": "abc123"}}, "status", "currentImports")
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := cronFrom(t, url, volume)
			after := before.DeepCopy()
			require.NoError(t, edit(after))
			require.NoError(t, crons.Update(t.Context(), after, before))
		})
	}
}
