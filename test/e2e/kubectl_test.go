//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func TestKubectlGetShowsWhatMatters(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	c, source := f.midImport(img)
	f.WaitReason(c, "Importing")
	header, row := firstLines(t, f.Kubectl("get", "vmdimp"))
	require.Equal(t, "NAME SOURCE PHASE STRATEGY PROGRESS RATE REASON AGE", header)
	require.Contains(t, row, "disk image Importing")
	source.Publish(img.file)
	f.RequireDone(c, img)
	_, row = firstLines(t, f.Kubectl("get", "vmdimp"))
	require.Regexp(t, `^disk image Succeeded Import 100% .*Succeeded`, row)

	header, row = firstLines(t, f.Kubectl("get", "vmdi"))
	require.Equal(t, "NAME SOURCE FORMAT READY REASON AGE", header)
	require.Contains(t, row, "image "+source.URL+" raw True Succeeded")
	require.Contains(t, f.Kubectl("get", "gild"), "vmdiskimport.virtualization.k8s.io/disk")
	f.Kubectl("wait", "--for=condition=Ready", "--timeout=60s", "vmdimp/disk", "vmdi/image")
}

// firstLines are the header and the first row of a table, with single spaces.
func firstLines(t *testing.T, table string) (header, row string) {
	t.Helper()
	lines := strings.Split(table, "\n")
	require.GreaterOrEqual(t, len(lines), 2, table)
	return strings.Join(strings.Fields(lines[0]), " "), strings.Join(strings.Fields(lines[1]), " ")
}

func TestKubectlExplain(t *testing.T) {
	t.Parallel()
	f := start(t)
	text := f.Kubectl("explain", "vmdiskimage.spec")
	for _, word := range []string{"source", "checksum", "format", "size", "DESCRIPTION"} {
		require.Contains(t, text, word)
	}
	var crds apiextensionsv1.CustomResourceDefinitionList
	require.NoError(t, f.List(t.Context(), &crds, client.HasLabels{runLabel}))
	// Those of KubeVirt say what KubeVirt says of them.
	ours := slices.DeleteFunc(crds.Items, func(crd apiextensionsv1.CustomResourceDefinition) bool { return crd.Spec.Group != v1alpha1.Group })
	require.Len(t, ours, 2)
	for _, crd := range ours {
		require.Contains(t, crd.Annotations, "api-approved.kubernetes.io")
		for _, version := range crd.Spec.Versions {
			requireDescribed(t, crd.Spec.Names.Kind, *version.Schema.OpenAPIV3Schema)
		}
	}
}

// requireDescribed checks that every field below path says what it is.
func requireDescribed(t *testing.T, path string, schema apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	for name, property := range schema.Properties {
		if name != "metadata" {
			require.NotEmpty(t, property.Description, "%s.%s has no description", path, name)
		}
		requireDescribed(t, path+"."+name, property)
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		requireDescribed(t, path+"[]", *schema.Items.Schema)
	}
}

// TestRules proves by the API server what its users may not write.
func TestRules(t *testing.T) {
	t.Parallel()
	f := start(t)
	for name, test := range map[string]struct {
		edit func(*v1alpha1.VMDiskImageSpec)
		says string
	}{
		"no source":       {func(s *v1alpha1.VMDiskImageSpec) { s.Source.HTTP = nil }, "exactly one source"},
		"another scheme":  {func(s *v1alpha1.VMDiskImageSpec) { s.Source.HTTP.URL = "file:///etc/passwd" }, "http:// or https://"},
		"no host":         {func(s *v1alpha1.VMDiskImageSpec) { s.Source.HTTP.URL = "http:///disk" }, "with a host"},
		"a password":      {func(s *v1alpha1.VMDiskImageSpec) { s.Source.HTTP.URL = "http://me:secret@example.org/disk" }, "secretRef"},
		"a bad checksum":  {func(s *v1alpha1.VMDiskImageSpec) { s.Checksum = "md5:00" }, "checksum"},
		"a bad format":    {func(s *v1alpha1.VMDiskImageSpec) { s.Format = "vmdk" }, "format"},
		"a broken header": {func(s *v1alpha1.VMDiskImageSpec) { s.Source.HTTP.ExtraHeaders = []string{"no colon"} }, "extraHeaders"},
	} {
		t.Run(name, func(t *testing.T) {
			vmdi := &v1alpha1.VMDiskImage{ObjectMeta: f.meta("image")}
			vmdi.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: "http://example.org/disk"}
			test.edit(&vmdi.Spec)
			require.ErrorContains(t, f.Create(t.Context(), vmdi, client.DryRunAll), test.says)
		})
	}
	imp := &v1alpha1.VMDiskImport{ObjectMeta: f.meta("import")}
	imp.Spec.ClaimRef, imp.Spec.ImageRef = v1alpha1.ClaimReference{Name: "a", UID: "b"}, v1alpha1.ImageReference{Name: "c", UID: "d"}
	imp.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: "http://example.org/disk"}
	require.NoError(t, f.Create(t.Context(), imp))
	imp.Spec.Source.HTTP.URL = "http://example.org/other"
	require.ErrorContains(t, f.Update(t.Context(), imp), "cannot be changed")
}

// TestSamplesApply asks the API server to take every sample, without keeping it.
func TestSamplesApply(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("ReferenceGrants")
	samples, err := filepath.Glob(filepath.Join(deployFolder, "samples", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, samples)
	// One kubectl for all of them: each start and each look at the API's schemas costs.
	f.Kubectl("apply", "--dry-run=server", "--filename", strings.Join(samples, ","))
	for _, sample := range samples {
		content, err := os.ReadFile(sample)
		require.NoError(t, err)
		require.NotContains(t, string(content), "namespace:", "a sample goes where its user is")
	}
	across, err := filepath.Glob(filepath.Join(deployFolder, "samples", "namespaces", "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, across)
	for _, sample := range across {
		content, err := os.ReadFile(sample)
		require.NoError(t, err)
		f.applyDry(f.here(string(content)))
	}
}

// here puts what belongs to a certain namespace into the test's own.
func (f *fixture) here(manifest string) string {
	return regexp.MustCompile(`(?m)(^  |, )namespace: [a-z0-9-]+`).ReplaceAllString(manifest, "${1}namespace: "+f.namespace)
}

// applyDry asks the API server to take a manifest, without keeping it.
func (f *fixture) applyDry(manifest string) {
	f.Helper()
	file := filepath.Join(f.TempDir(), "manifest.yaml")
	require.NoError(f, os.WriteFile(file, []byte(manifest), 0o600))
	f.Kubectl("apply", "--dry-run=server", "--filename", file)
}

// TestDocsApply asks the API server to take every manifest in the pages for users, without keeping it.
func TestDocsApply(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("ReferenceGrants")
	for _, page := range []string{"vmdiskimage.md", "registries.md", "dataimportcron.md", "datasource.md", "datavolume.md", "strategies.md", "moving-from-cdi.md"} {
		content, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		require.NoError(t, err)
		var manifests []string
		for _, text := range strings.Split(string(content), "```yaml\n")[1:] {
			text, _, _ = strings.Cut(text, "```")
			if strings.HasPrefix(text, "apiVersion:") || strings.HasPrefix(text, "# in the namespace ") {
				manifests = append(manifests, f.here(text))
			}
		}
		require.NotEmpty(t, manifests, page)
		require.True(t, strings.HasPrefix(strings.SplitN(string(content), "\n\n", 2)[1], "```yaml\napiVersion:"), "%s does not begin with a manifest", page)
		f.applyDry(strings.Join(manifests, "\n---\n"))
	}
}

// TestPopulatorMayDoNoMore asks the API server what the populator's service account may do.
func TestPopulatorMayDoNoMore(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.RequirePermissions(populatorName, []permission{
		{verb: "get", resource: "secrets", namespace: f.namespace, allowed: true},
		{verb: "get", resource: "configmaps", namespace: f.namespace, allowed: true},
		{verb: "get", resource: "serviceaccounts", namespace: f.namespace, allowed: true},
		{verb: "list", resource: "serviceaccounts", namespace: f.namespace},
		{verb: "create", resource: "serviceaccounts", subresource: "token", namespace: f.namespace},
		{verb: "get", group: "image.openshift.io", resource: "imagestreams", namespace: f.namespace, allowed: true},
		{verb: "list", group: "image.openshift.io", resource: "imagestreams", namespace: f.namespace},
		{verb: "list", resource: "secrets"},
		{verb: "watch", resource: "secrets"},
		{verb: "list", resource: "secrets", namespace: f.namespace},
		{verb: "watch", resource: "secrets", namespace: f.namespace},
		{verb: "create", resource: "secrets", namespace: f.namespace, allowed: true}, // for exporters, as are the next two
		{verb: "create", resource: "pods", namespace: f.namespace, allowed: true},
		{verb: "create", resource: "services", namespace: f.namespace, allowed: true},
		{verb: "update", resource: "secrets", namespace: f.namespace},
		{verb: "update", resource: "pods", namespace: f.namespace},
		{verb: "list", resource: "configmaps"},
		{verb: "watch", resource: "configmaps"},
		{verb: "create", resource: "secrets", namespace: systemNamespace, allowed: true},
		{verb: "create", group: "batch", resource: "jobs", namespace: systemNamespace, allowed: true},
		{verb: "create", group: "batch", resource: "jobs", namespace: f.namespace},
		{verb: "get", resource: "pods", subresource: "log", namespace: systemNamespace, allowed: true},
		{verb: "get", resource: "pods", subresource: "log", namespace: f.namespace},
		{verb: "create", resource: "pods", subresource: "exec", namespace: systemNamespace},
		{verb: "delete", resource: "persistentvolumeclaims", namespace: f.namespace},
		{verb: "create", resource: "persistentvolumeclaims", namespace: f.namespace, allowed: true}, // of DataVolumes, as are the next ones
		{verb: "create", group: v1alpha1.Group, resource: "vmdiskimages", namespace: f.namespace, allowed: true},
		{verb: "create", group: golden.Group, resource: "datasources", namespace: f.namespace, allowed: true},
		{verb: "patch", group: golden.Group, resource: "datavolumes", subresource: "status", namespace: f.namespace, allowed: true},
		{verb: "patch", group: golden.Group, resource: "datavolumes", namespace: f.namespace},
		{verb: "create", group: golden.Group, resource: "datavolumes", namespace: f.namespace},
		{verb: "delete", group: golden.Group, resource: "datavolumes", namespace: f.namespace},
		{verb: "create", group: golden.Group, resource: "cdis"},
		{verb: "delete", resource: "persistentvolumes"},
		{verb: "create", resource: "persistentvolumes"},
		{verb: "escalate", group: "rbac.authorization.k8s.io", resource: "clusterroles"},
		{verb: "bind", group: "rbac.authorization.k8s.io", resource: "clusterroles"},
		{verb: "impersonate", resource: "users"},
	})
}

// TestPollerMayDoNoMore asks the same about the poller's.
func TestPollerMayDoNoMore(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.RequirePermissions(pollerName, []permission{
		{verb: "get", resource: "secrets", namespace: f.namespace, allowed: true},
		{verb: "list", resource: "secrets", namespace: f.namespace},
		{verb: "watch", resource: "secrets"},
		{verb: "create", resource: "secrets", namespace: systemNamespace},
		{verb: "get", resource: "configmaps", namespace: f.namespace, allowed: true},
		{verb: "list", resource: "configmaps", namespace: f.namespace},
		{verb: "create", resource: "configmaps", namespace: systemNamespace},
		{verb: "create", resource: "serviceaccounts", subresource: "token", namespace: f.namespace},
		{verb: "patch", group: golden.Group, resource: "dataimportcrons", namespace: f.namespace, allowed: true},
		{verb: "create", group: golden.Group, resource: "dataimportcrons", namespace: f.namespace},
		{verb: "delete", group: golden.Group, resource: "dataimportcrons", namespace: f.namespace},
		{verb: "create", group: golden.Group, resource: "datasources", namespace: f.namespace, allowed: true},
		{verb: "update", group: golden.Group, resource: "storageprofiles"},
		{verb: "create", resource: "persistentvolumeclaims", namespace: f.namespace, allowed: true},
		{verb: "delete", resource: "persistentvolumeclaims", namespace: f.namespace, allowed: true},
		{verb: "patch", resource: "persistentvolumes"},
		{verb: "delete", resource: "persistentvolumes"},
		{verb: "create", group: v1alpha1.Group, resource: "vmdiskimports", namespace: f.namespace},
		{verb: "patch", group: v1alpha1.Group, resource: "vmdiskimports", subresource: "status", namespace: f.namespace},
		{verb: "create", resource: "pods", namespace: systemNamespace},
		{verb: "delete", resource: "pods", namespace: f.namespace},
		{verb: "get", resource: "pods", subresource: "log", namespace: systemNamespace},
		{verb: "create", group: "batch", resource: "jobs", namespace: systemNamespace},
		{verb: "list", group: "apiextensions.k8s.io", resource: "customresourcedefinitions"},
		{verb: "update", group: "coordination.k8s.io", resource: "leases", namespace: systemNamespace, allowed: true},
		{verb: "update", group: "coordination.k8s.io", resource: "leases", namespace: f.namespace},
		{verb: "escalate", group: "rbac.authorization.k8s.io", resource: "clusterroles"},
		{verb: "impersonate", resource: "users"},
	})
}

// permission is something that a service account may do or not.
type permission struct {
	verb, group, resource, subresource, namespace string
	allowed                                       bool
}

// RequirePermissions asks the API server what a service account of Gild may do.
func (f *fixture) RequirePermissions(account string, permissions []permission) {
	f.Helper()
	for _, test := range permissions {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   "system:serviceaccount:" + systemNamespace + ":" + account,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + systemNamespace, "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: test.verb, Group: test.group, Resource: test.resource, Subresource: test.subresource, Namespace: test.namespace,
			},
		}}
		require.NoError(f, f.Create(f.ctx, review))
		require.Equal(f, test.allowed, review.Status.Allowed, "%s: %+v", account, test)
	}
}
