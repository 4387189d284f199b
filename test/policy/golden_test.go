package policy_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/test/definition"
	"github.com/gild-project/gild/test/policy"
)

// certifiers may certify goldenclaims: a name, or "name in namespace".
type certifiers []string

func (c certifiers) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetVerb() != "certify" || a.GetAPIGroup() != "gild.dev" || a.GetResource() != "goldenclaims" || a.GetSubresource() != "" {
		return authorizer.DecisionNoOpinion, "", nil
	}
	for _, name := range c {
		if name == a.GetUser().GetName() || name == a.GetUser().GetName()+" in "+a.GetNamespace() {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "", nil
}

func with(object *unstructured.Unstructured, annotations map[string]string) *unstructured.Unstructured {
	object = object.DeepCopy()
	object.SetAnnotations(annotations)
	return object
}

func TestGolden(t *testing.T) {
	policies := policy.Load(t, deploy+"policies/golden/golden.yaml")
	const poller = "system:serviceaccount:gild-system:gild-poller"
	allowed := certifiers{poller, "restorer in vms", "other-restorer in backups"}
	disk := claim(t, "volumeMode: Block")
	cron := definition.Parse(t, "{apiVersion: cdi.kubevirt.io/v1beta1, kind: DataImportCron, metadata: {namespace: vms, name: fedora}, spec: {}}")
	type notes = map[string]string
	for name, test := range map[string]struct {
		object        *unstructured.Unstructured
		before, after notes // before is nil when it is created
		user          string
		refused       bool
	}{
		"a claim without them":          {disk, nil, notes{"team": "a"}, "eve", false},
		"a claim with nothing":          {disk, nil, nil, "eve", false},
		"a forged one":                  {disk, nil, notes{golden.AnnotationVerified: "true"}, "eve", true},
		"a forged revision":             {disk, nil, notes{golden.AnnotationRevision: "{}"}, "eve", true},
		"set later":                     {disk, notes{"team": "a"}, notes{"team": "a", golden.AnnotationVerified: "true"}, "eve", true},
		"set on one without any":        {disk, notes{}, notes{golden.AnnotationVerified: "true"}, "eve", true},
		"changed":                       {disk, notes{golden.AnnotationRevision: "{}"}, notes{golden.AnnotationRevision: `{"digest":"a"}`}, "eve", true},
		"one left alone, one changed":   {disk, notes{golden.AnnotationRevision: "{}", golden.AnnotationVerified: "a"}, notes{golden.AnnotationRevision: "{}", golden.AnnotationVerified: "b"}, "eve", true},
		"left alone":                    {disk, notes{golden.AnnotationVerified: "true"}, notes{golden.AnnotationVerified: "true", "team": "b"}, "eve", false},
		"removed":                       {disk, notes{golden.AnnotationVerified: "true"}, notes{}, "eve", false},
		"empty":                         {disk, notes{}, notes{golden.AnnotationVerified: ""}, "eve", false},
		"by the poller":                 {disk, notes{}, notes{golden.AnnotationVerified: "true"}, poller, false},
		"made by the poller":            {disk, nil, notes{golden.AnnotationRevision: "{}"}, poller, false},
		"by who may restore here":       {disk, nil, notes{golden.AnnotationVerified: "true"}, "restorer", false},
		"by who may restore elsewhere":  {disk, nil, notes{golden.AnnotationVerified: "true"}, "other-restorer", true},
		"a cron as a user writes it":    {cron, nil, notes{golden.AnnotationDesiredDigest: "sha256:a"}, "eve", false},
		"a cron with a forged poll":     {cron, nil, notes{golden.AnnotationPolled: "{}"}, "eve", true},
		"a cron with a forged import":   {cron, notes{golden.AnnotationPolled: "{}"}, notes{golden.AnnotationPolled: "{}", golden.AnnotationImported: "{}"}, "eve", true},
		"a cron that is polled at once": {cron, notes{golden.AnnotationPolled: "{}"}, notes{golden.AnnotationPolled: "{}", golden.AnnotationPollNow: "1"}, "eve", false},
		"a cron, by the poller":         {cron, notes{golden.AnnotationPolled: "{}"}, notes{golden.AnnotationPolled: `{"digest":"a"}`}, poller, false},
	} {
		t.Run(name, func(t *testing.T) {
			request := policy.Request{Operation: admission.Create, Resource: "persistentvolumeclaims", Object: with(test.object, test.after),
				User: &user.DefaultInfo{Name: test.user}, Authorizer: allowed}
			if test.object == cron {
				request.Resource = "dataimportcrons"
			}
			if test.before != nil {
				request.Operation, request.Old = admission.Update, with(test.object, test.before)
			}
			refusal := policies.Refusal(t, request)
			require.Equal(t, test.refused, refusal != "", refusal)
			if test.refused {
				require.Contains(t, refusal, "bind the ClusterRole gild-certify")
			}
			if test.object == disk && test.before != nil {
				request.Subresource = "status"
				require.Equal(t, test.refused, policies.Refusal(t, request) != "", "the status is no way around")
			}
		})
	}
	require.Empty(t, policies.Refusal(t, policy.Request{Operation: admission.Delete, Resource: "persistentvolumeclaims", Old: with(disk, notes{golden.AnnotationVerified: "true"}),
		User: &user.DefaultInfo{Name: "eve"}, Authorizer: allowed}), "users may delete golden claims")
}

func TestGoldenImports(t *testing.T) {
	policies := policy.Load(t, deploy+"policies/golden/golden.yaml")
	const populator = "system:serviceaccount:gild-system:gild-populator"
	allowed := certifiers{populator, "restorer in vms", "other-restorer in backups"}
	for name, test := range map[string]struct {
		of, user string
		refused  bool
	}{
		"of a cron":                         {"kind: DataImportCron, name: fedora", "eve", true},
		"of a cron, by Gild":                {"kind: DataImportCron, name: fedora", populator, false},
		"of a cron, by who may restore it":  {"kind: DataImportCron, name: fedora", "restorer", false},
		"of a cron, by who may elsewhere":   {"kind: DataImportCron, name: fedora", "other-restorer", true},
		"of an image":                       {"kind: VMDiskImage, name: fedora", "eve", false},
		"of an image, without saying so":    {"name: fedora", "eve", false},
		"of a DataSource":                   {"kind: DataSource, name: fedora", "eve", false},
		"of an image that is called a cron": {"name: DataImportCron", "eve", false},
	} {
		t.Run(name, func(t *testing.T) {
			imp := definition.Parse(t, "{apiVersion: virtualization.k8s.io/v1alpha1, kind: VMDiskImport, metadata: {namespace: vms, name: disk}, spec: {imageRef: {"+test.of+"}}}")
			request := policy.Request{Operation: admission.Create, Resource: "vmdiskimports", Object: imp, User: &user.DefaultInfo{Name: test.user}, Authorizer: allowed}
			refusal := policies.Refusal(t, request)
			require.Equal(t, test.refused, refusal != "", refusal)
			if test.refused {
				require.Contains(t, refusal, "bind the ClusterRole gild-certify")
			}
			request.Operation, request.Old = admission.Update, imp
			require.Empty(t, policies.Refusal(t, request), "what an import does cannot be changed")
		})
	}
}
