package policy

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	apiservercel "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// Mutate is the object of a request after the mutating policies.
func (p *Policies) Mutate(t *testing.T, r Request) *unstructured.Unstructured {
	t.Helper()
	for _, m := range p.mutating {
		if !covers(m.policy.Spec.MatchConstraints, &r) {
			continue
		}
		versioned := r.versioned()
		matched := m.matches.Match(t.Context(), versioned, nil, r.authorizer())
		require.NoError(t, matched.Error)
		if !matched.Matches {
			continue
		}
		for _, patcher := range m.patchers {
			patched, err := patcher.Patch(t.Context(), patch.Request{
				MatchedResource: r.resource(), VersionedAttributes: versioned,
				OptionalVariables: cel.OptionalVariableBindings{Authorizer: r.authorizer()},
				TypeConverter:     applyconfigurations.NewTypeConverter(scheme.Scheme),
			}, apiservercel.RuntimeCELCostBudget)
			require.NoError(t, err, m.policy.Name)
			object, ok := patched.(*unstructured.Unstructured)
			require.True(t, ok, "%T", patched)
			r.Object = object
			versioned.UpdateObject(object)
		}
	}
	return r.Object
}

// Refusal is the message that a request is refused with by the validating policies; empty when it is
// not.
func (p *Policies) Refusal(t *testing.T, r Request) string {
	t.Helper()
	for _, v := range p.validating {
		if !covers(v.policy.Spec.MatchConstraints, &r) {
			continue
		}
		matched := v.matches.Match(t.Context(), r.versioned(), nil, r.authorizer())
		require.NoError(t, matched.Error)
		if !matched.Matches {
			continue
		}
		for i, passed := range evaluate(t, v.checks, &r, cel.OptionalVariableBindings{Authorizer: r.authorizer()}) {
			require.NoError(t, passed.Error)
			if passed.EvalResult.Value() == true {
				continue
			}
			message := evaluate(t, v.messages, &r, cel.OptionalVariableBindings{})[i]
			require.NoError(t, message.Error)
			text, ok := message.EvalResult.Value().(string)
			require.True(t, ok)
			return text
		}
	}
	return ""
}

func evaluate(t *testing.T, evaluator cel.ConditionEvaluator, r *Request, variables cel.OptionalVariableBindings) []cel.EvaluationResult {
	t.Helper()
	attributes := r.attributes()
	request := cel.CreateAdmissionRequest(attributes, metav1.GroupVersionResource(attributes.GetResource()), metav1.GroupVersionKind(attributes.GetKind()))
	results, _, err := evaluator.ForInput(t.Context(), r.versioned(), request, variables, nil, apiservercel.RuntimeCELCostBudget)
	require.NoError(t, err)
	return results
}

func (r *Request) authorizer() authorizer.UnconditionalAuthorizer {
	if r.Authorizer == nil {
		return nobody{}
	}
	return r.Authorizer
}

// nobody may do anything.
type nobody struct{}

func (nobody) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	return authorizer.DecisionNoOpinion, "", nil
}
