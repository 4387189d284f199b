// Package policy runs admission policies in tests as the API server runs them, with the API server's
// own code.
package policy

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"sigs.k8s.io/yaml"
)

// Policies are those of one cluster, each with its binding.
type Policies struct {
	mutating   []mutatingPolicy
	validating []validatingPolicy
}

type mutatingPolicy struct {
	policy   *admissionv1.MutatingAdmissionPolicy
	matches  matcher
	patchers []patch.Patcher
}

type validatingPolicy struct {
	policy   *admissionv1.ValidatingAdmissionPolicy
	matches  matcher
	checks   cel.ConditionEvaluator
	messages cel.ConditionEvaluator
}

// Request is one that the policies see.
type Request struct {
	// Operation is Create, Update or Delete.
	Operation admission.Operation
	// Resource is the plural of the objects' kind; Subresource is empty but for writes to one.
	Resource, Subresource string
	// Object is nil when it is deleted, Old when it is created.
	Object, Old *unstructured.Unstructured
	// User asks, and Authorizer tells what a user may do; nil says that nobody may do anything.
	User       user.Info
	Authorizer authorizer.UnconditionalAuthorizer
}

// Load compiles the policies in files. Every policy has one binding that denies what it refuses,
// and nothing else.
func Load(t *testing.T, files ...string) *Policies {
	t.Helper()
	all, bound := &Policies{}, map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		for document := range strings.SplitSeq(string(data), "\n---\n") {
			all.add(t, document, bound)
		}
	}
	for _, p := range all.mutating {
		require.True(t, bound[p.policy.Name], "%s is not bound", p.policy.Name)
		delete(bound, p.policy.Name)
	}
	for _, p := range all.validating {
		require.True(t, bound[p.policy.Name], "%s is not bound", p.policy.Name)
		delete(bound, p.policy.Name)
	}
	require.Empty(t, bound, "bindings without a policy")
	return all
}

func (p *Policies) add(t *testing.T, document string, bound map[string]bool) {
	t.Helper()
	read := func(into any) { require.NoError(t, yaml.UnmarshalStrict([]byte(document), into)) }
	kind := metav1.TypeMeta{}
	require.NoError(t, yaml.Unmarshal([]byte(document), &kind))
	switch kind.Kind {
	case "MutatingAdmissionPolicy":
		policy := &admissionv1.MutatingAdmissionPolicy{}
		read(policy)
		p.mutating = append(p.mutating, compileMutating(t, policy))
	case "ValidatingAdmissionPolicy":
		policy := &admissionv1.ValidatingAdmissionPolicy{}
		read(policy)
		p.validating = append(p.validating, compileValidating(t, policy))
	case "MutatingAdmissionPolicyBinding":
		binding := &admissionv1.MutatingAdmissionPolicyBinding{}
		read(binding)
		require.Nil(t, binding.Spec.MatchResources)
		bound[binding.Spec.PolicyName] = true
	case "ValidatingAdmissionPolicyBinding":
		binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
		read(binding)
		require.Nil(t, binding.Spec.MatchResources)
		require.Equal(t, []admissionv1.ValidationAction{admissionv1.Deny}, binding.Spec.ValidationActions)
		bound[binding.Spec.PolicyName] = true
	}
}

func (r *Request) attributes() admission.Attributes {
	named := r.Object
	if named == nil {
		named = r.Old
	}
	gvk := named.GroupVersionKind()
	return admission.NewAttributesRecord(orNil(r.Object), orNil(r.Old), gvk, named.GetNamespace(), named.GetName(),
		r.resource(), r.Subresource, r.Operation, nil, false, r.User)
}

func (r *Request) resource() schema.GroupVersionResource {
	if r.Object == nil {
		return r.Old.GroupVersionKind().GroupVersion().WithResource(r.Resource)
	}
	return r.Object.GroupVersionKind().GroupVersion().WithResource(r.Resource)
}

// versioned are the attributes as expressions see them.
func (r *Request) versioned() *admission.VersionedAttributes {
	attributes := r.attributes()
	return &admission.VersionedAttributes{Attributes: attributes, VersionedKind: attributes.GetKind(),
		VersionedObject: admission.NewLazyObject(orNil(r.Object)), VersionedOldObject: admission.NewLazyObject(orNil(r.Old))}
}

// orNil keeps a nil pointer from becoming an object.
func orNil(object *unstructured.Unstructured) runtime.Object {
	if object == nil {
		return nil
	}
	return object
}

// covers reports whether the rules of a policy are about a request.
func covers(constraints *admissionv1.MatchResources, r *Request) bool {
	for _, rule := range constraints.ResourceRules {
		matcher := rules.Matcher{Rule: rule.RuleWithOperations, Attr: r.attributes()}
		if matcher.Matches() {
			return true
		}
	}
	return false
}
