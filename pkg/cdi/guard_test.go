package cdi_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"

	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/test/policy"
)

func TestGuard(t *testing.T) {
	guard := policy.Load(t, filepath.Join("..", "..", "deploy", "cdi-guard.yaml"))
	definition := func(plural string, labels map[string]string) *apiextensionsv1.CustomResourceDefinition {
		d := readDefinition(t, plural)
		d.Labels = labels
		return d
	}
	ours := readDefinition(t, "datasources").Labels
	cdis := map[string]string{"operator.cdi.kubevirt.io": "", "cdi.kubevirt.io": ""}
	left := map[string]string{"cdi.kubevirt.io": "", cdi.LabelOwned: cdi.LeftByCDI}
	owned := func(labels map[string]string) *apiextensionsv1.CustomResourceDefinition {
		d := definition("datavolumes", labels)
		d.OwnerReferences = []metav1.OwnerReference{{APIVersion: "cdi.kubevirt.io/v1beta1", Kind: "CDI", Name: "cdi", UID: "cdi-uid"}}
		return d
	}
	const doWithout, keepOwners = "do without deploy/cdi", "Remove its ownerReferences first"
	another, anotherBefore := definition("datasources", ours), definition("datasources", cdis)
	another.Spec.Group, anotherBefore.Spec.Group = "kinds.example.org", "kinds.example.org"
	for name, test := range map[string]struct {
		operation     admission.Operation
		before, after *apiextensionsv1.CustomResourceDefinition
		refused       string
	}{
		"ours over CDI's":                       {admission.Update, definition("dataimportcrons", cdis), definition("dataimportcrons", ours), doWithout},
		"ours over CDI's, another kind":         {admission.Update, definition("storageprofiles", cdis), definition("storageprofiles", ours), doWithout},
		"ours over one without labels":          {admission.Update, definition("datasources", nil), definition("datasources", ours), doWithout},
		"ours over an older one of ours":        {admission.Update, definition("datasources", ours), definition("datasources", ours), ""},
		"ours where there is none":              {admission.Create, nil, definition("datasources", ours), ""},
		"CDI's over CDI's":                      {admission.Update, definition("datasources", cdis), definition("datasources", cdis), ""},
		"CDI's over ours":                       {admission.Update, definition("datasources", ours), definition("datasources", cdis), ""},
		"without labels before and after":       {admission.Update, definition("datasources", nil), definition("datasources", nil), ""},
		"a definition of another group":         {admission.Update, anotherBefore, another, ""},
		"the label without its value":           {admission.Update, definition("datasources", cdis), definition("datasources", map[string]string{cdi.LabelOwned: "false"}), doWithout},
		"one that CDI has left":                 {admission.Update, definition("datasources", cdis), definition("datasources", left), ""},
		"ours over one that CDI has left":       {admission.Update, definition("datasources", left), definition("datasources", ours), ""},
		"one of an installation, as if left":    {admission.Update, owned(cdis), owned(left), keepOwners},
		"ours over one of an installation":      {admission.Update, owned(left), owned(ours), keepOwners},
		"an installation keeps ours":            {admission.Update, owned(ours), owned(ours), ""},
		"one that CDI has left, without a mark": {admission.Update, owned(cdis), definition("datavolumes", cdis), ""},
		"deleting one of CDI's":                 {admission.Delete, definition("datasources", cdis), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			refusal := guard.Refusal(t, policy.Request{Operation: test.operation, Resource: "customresourcedefinitions",
				Object: asSent(t, test.after), Old: asSent(t, test.before)})
			if test.refused == "" {
				require.Empty(t, refusal)
				return
			}
			require.True(t, strings.HasPrefix(refusal, test.after.GetName()), refusal)
			require.Contains(t, refusal, test.refused)
		})
	}
}

// asSent is a definition as a client sends it; nil for none.
func asSent(t *testing.T, definition *apiextensionsv1.CustomResourceDefinition) *unstructured.Unstructured {
	t.Helper()
	if definition == nil {
		return nil
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(definition)
	require.NoError(t, err)
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	return object
}
