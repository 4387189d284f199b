//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/golden"
)

// TestDataImportCronRules proves by the API server what its users may not write, and what they are told.
func TestDataImportCronRules(t *testing.T) {
	t.Parallel()
	f := start(t)
	source := func(source *cdiv1.DataVolumeSource) func(*cdiv1.DataImportCron) {
		return func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Source = source }
	}
	schedule := func(text string) func(*cdiv1.DataImportCron) {
		return func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = text }
	}
	registry := func(registry *cdiv1.DataVolumeSourceRegistry) func(*cdiv1.DataImportCron) {
		return source(&cdiv1.DataVolumeSource{Registry: registry})
	}
	node := cdiv1.RegistryPullMethod("node")
	for name, test := range map[string]struct {
		edit func(*cdiv1.DataImportCron)
		// says is in the refusal; empty when there is none.
		says string
	}{
		"as it should be": {func(*cdiv1.DataImportCron) {}, ""},
		"no schedule":     {schedule(""), ""},
		"a word":          {schedule("@daily"), ""},
		"a time zone":     {schedule("CRON_TZ=Europe/Vienna 30 1 * * 1"), ""},
		"four fields":     {schedule("30 1 * *"), "Illegal cron schedule"},
		"no minute":       {schedule("61 * * * *"), "Illegal cron schedule"},
		"words":           {schedule("every day"), "Illegal cron schedule"},
		"a name too long": {func(cron *cdiv1.DataImportCron) { cron.Name = strings.Repeat("a", 64) }, "longer than 63"},
		"no DataSource":   {func(cron *cdiv1.DataImportCron) { cron.Spec.ManagedDataSource = "" }, "ManagedDataSource"},
		"nothing kept":    {func(cron *cdiv1.DataImportCron) { cron.Spec.ImportsToKeep = ptr.To[int32](0) }, "ImportsToKeep"},
		"garbage": {func(cron *cdiv1.DataImportCron) {
			cron.Spec.GarbageCollect = ptr.To(cdiv1.DataImportCronGarbageCollect("Some"))
		}, "GarbageCollect"},
		"retention": {func(cron *cdiv1.DataImportCron) {
			cron.Spec.RetentionPolicy = ptr.To(cdiv1.DataImportCronRetentionPolicy("Some"))
		}, "RetentionPolicy"},
		"no source":          {source(nil), "Missing source"},
		"a source not ours":  {source(&cdiv1.DataVolumeSource{Blank: &cdiv1.DataVolumeBlankImage{}}), "Missing source"},
		"two sources":        {source(&cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: "http://example.org/a"}, PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "a", Name: "b"}}), "exactly one"},
		"ftp":                {source(&cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: "ftp://example.org/a"}}), "scheme"},
		"a password":         {source(&cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: "http://me:secret@example.org/a"}}), "secretRef"},
		"md5":                {source(&cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: "http://example.org/a", Checksum: "md5:00"}}), "checksum"},
		"no docker URL":      {registry(&cdiv1.DataVolumeSourceRegistry{URL: ptr.To("registry.example.org/disk:1")}), "docker://"},
		"a digest":           {registry(&cdiv1.DataVolumeSourceRegistry{URL: ptr.To("docker://registry.example.org/disk@" + digestOf(nil))}), ""},
		"neither":            {registry(&cdiv1.DataVolumeSourceRegistry{}), "URL or ImageStream"},
		"a stream for a pod": {registry(&cdiv1.DataVolumeSourceRegistry{ImageStream: ptr.To("debian:12")}), "pullMethod: node"},
		"a stream":           {registry(&cdiv1.DataVolumeSourceRegistry{ImageStream: ptr.To("debian:12"), PullMethod: &node}), ""},
		"a sourceRef": {func(cron *cdiv1.DataImportCron) {
			cron.Spec.Template.Spec.SourceRef = &cdiv1.DataVolumeSourceRef{Kind: "DataSource", Name: "a"}
		}, "Unsettable fields"},
		"no size": {func(cron *cdiv1.DataImportCron) {
			cron.Spec.Template.Spec.Storage.Resources = corev1.VolumeResourceRequirements{}
		}, "size is missing"},
		"nothing of it": {func(cron *cdiv1.DataImportCron) {
			cron.Spec.Template.Spec.Storage.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("0")
		}, "less than zero"},
		"no volume": {func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Storage = nil }, "Missing Data volume PVC"},
	} {
		t.Run(name, func(t *testing.T) {
			cron := f.newCron("cron", httpSource("http://example.org/disk"))
			test.edit(cron)
			err := f.Create(t.Context(), cron, client.DryRunAll)
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "secret@")
		})
	}
}

// TestDataSourceSaysWhereItLeads asks for chains of DataSources and for what is not there.
func TestDataSourceSaysWhereItLeads(t *testing.T) {
	t.Parallel()
	f := start(t)
	to := func(name string) cdiv1.DataSourceSource {
		return cdiv1.DataSourceSource{DataSource: &cdiv1.DataSourceRefSourceDataSource{Namespace: f.namespace, Name: name}}
	}
	toClaim := func(name string) cdiv1.DataSourceSource {
		return cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: f.namespace, Name: name}}
	}
	img := f.Revision(0)
	source := f.Serve("disk", img.Held())
	f.VMDiskImage("image", source.URL)
	c := f.Claim("unfilled", "image")
	for name, source := range map[string]cdiv1.DataSourceSource{
		"nothing": {}, "missing": toClaim("missing"), "direct": toClaim(c.name), "chain": to("direct"), "deep": to("chain"), "self": to("self"),
	} {
		require.NoError(t, f.Create(f.ctx, &cdiv1.DataSource{ObjectMeta: f.meta(name), Spec: cdiv1.DataSourceSpec{Source: source}}))
	}
	for name, reason := range map[string]string{
		"nothing": "NoSource", "missing": "NotFound", "deep": "MaxReferenceDepthReached", "self": "SelfReference",
	} {
		f.WaitSource(name, corev1.ConditionFalse, reason)
	}
	for _, name := range []string{"direct", "chain"} {
		f.WaitSource(name, corev1.ConditionFalse, "")
	}
	source.Publish(img.file)
	f.RequireBound(c)
	for _, name := range []string{"direct", "chain"} {
		ready := f.WaitSource(name, corev1.ConditionTrue, "Ready")
		require.Equal(t, c.name, ready.Status.Source.PVC.Name)
	}
	f.DeleteClaim(c)
	f.WaitSource("chain", corev1.ConditionFalse, "NotFound")
	require.Nil(t, f.ReadDataSource("chain").Status.Source.PVC)
}

// TestKindsOfCDIAreNotTaken makes one of CDI's definitions that Gild does not have, as CDI's operator does. To apply
// one of ours over it is refused.
func TestKindsOfCDIAreNotTaken(t *testing.T) {
	t.Parallel()
	f := start(t)
	foreign := foreignDefinition("volumeuploadsources", "VolumeUploadSource", "volumeuploadsource")
	foreign.Labels = map[string]string{runLabel: f.run}
	require.NoError(t, client.IgnoreAlreadyExists(f.Create(f.ctx, foreign)))
	t.Cleanup(func() { require.NoError(t, f.Delete(context.WithoutCancel(f.ctx), foreign)) })
	before := foreign.DeepCopy()
	foreign.Labels[cdi.LabelOwned] = "true"
	require.ErrorContains(t, f.Patch(f.ctx, foreign, client.MergeFrom(before), client.DryRunAll), "containerized-data-importer")
	foreign.Labels = map[string]string{runLabel: f.run, "app": "containerized-data-importer"}
	require.NoError(t, f.Patch(f.ctx, foreign, client.MergeFrom(before)), "it stays its owner's")
}

// foreignDefinition is a definition in CDI's group that anybody could have made.
func foreignDefinition(plural, kind, singular string) *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + golden.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: golden.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Kind: kind, Singular: singular, ListKind: kind + "List"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: "v1beta1", Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", XPreserveUnknownFields: ptr.To(true),
				}},
			}},
		},
	}
}
