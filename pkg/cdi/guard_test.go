package cdi_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	policy "k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/predicates/rules"
	apiservercel "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/cdi"
)

// guard is deploy/cdi-guard.yaml, run by the API server's own code.
type guard struct {
	policy     *admissionv1.ValidatingAdmissionPolicy
	conditions policy.ConditionEvaluator
	checks     policy.ConditionEvaluator
	messages   policy.ConditionEvaluator
}

// expression is one of the policy's as its evaluator wants it.
type expression struct {
	text    string
	returns *cel.Type
}

func (e expression) GetExpression() string    { return e.text }
func (e expression) ReturnTypes() []*cel.Type { return []*cel.Type{e.returns} }

func loadGuard(t *testing.T) *guard {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "cdi-guard.yaml"))
	require.NoError(t, err)
	documents := strings.Split(string(data), "\n---\n")
	require.Len(t, documents, 2)
	g := &guard{policy: &admissionv1.ValidatingAdmissionPolicy{}}
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[0]), g.policy))
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{}
	require.NoError(t, yaml.UnmarshalStrict([]byte(documents[1]), binding))
	require.Equal(t, g.policy.Name, binding.Spec.PolicyName)
	require.Equal(t, []admissionv1.ValidationAction{admissionv1.Deny}, binding.Spec.ValidationActions)
	require.Nil(t, binding.Spec.MatchResources)

	var conditions, checks, messages []policy.ExpressionAccessor
	for _, condition := range g.policy.Spec.MatchConditions {
		conditions = append(conditions, expression{condition.Expression, cel.BoolType})
	}
	for _, validation := range g.policy.Spec.Validations {
		checks = append(checks, expression{validation.Expression, cel.BoolType})
		messages = append(messages, expression{validation.MessageExpression, cel.StringType})
	}
	compiler, err := policy.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	require.NoError(t, err)
	compile := func(expressions []policy.ExpressionAccessor) policy.ConditionEvaluator {
		evaluator := compiler.CompileCondition(expressions, policy.OptionalVariableDeclarations{}, environment.NewExpressions)
		require.Empty(t, evaluator.CompilationErrors())
		return evaluator
	}
	g.conditions, g.checks, g.messages = compile(conditions), compile(checks), compile(messages)
	return g
}

// refusal is the message that an update from before to after is refused with; empty when it is not.
func (g *guard) refusal(t *testing.T, operation admission.Operation, before, after *apiextensionsv1.CustomResourceDefinition) string {
	t.Helper()
	gvk := schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
	gvr := gvk.GroupVersion().WithResource("customresourcedefinitions")
	var object, old runtime.Object
	if before != nil {
		old = before
	}
	if after != nil {
		object = after
	}
	attributes := admission.NewAttributesRecord(object, old, gvk, "", "the.definition", gvr, "", operation, nil, false, nil)
	matches := false
	for _, rule := range g.policy.Spec.MatchConstraints.ResourceRules {
		matcher := rules.Matcher{Rule: rule.RuleWithOperations, Attr: attributes}
		matches = matches || matcher.Matches()
	}
	if !matches {
		return ""
	}
	versioned := &admission.VersionedAttributes{Attributes: attributes, VersionedKind: gvk, VersionedObject: admission.NewLazyObject(object), VersionedOldObject: admission.NewLazyObject(old)}
	evaluate := func(evaluator policy.ConditionEvaluator) []any {
		request := policy.CreateAdmissionRequest(attributes, metav1.GroupVersionResource(gvr), metav1.GroupVersionKind(gvk))
		results, _, err := evaluator.ForInput(t.Context(), versioned, request, policy.OptionalVariableBindings{}, nil, apiservercel.RuntimeCELCostBudget)
		require.NoError(t, err)
		var values []any
		for _, result := range results {
			require.NoError(t, result.Error)
			values = append(values, result.EvalResult.Value())
		}
		return values
	}
	for _, met := range evaluate(g.conditions) {
		if met != true {
			return ""
		}
	}
	for i, passed := range evaluate(g.checks) {
		if passed != true {
			message, ok := evaluate(g.messages)[i].(string)
			require.True(t, ok)
			return message
		}
	}
	return ""
}

func TestGuard(t *testing.T) {
	g := loadGuard(t)
	definition := func(plural string, labels map[string]string) *apiextensionsv1.CustomResourceDefinition {
		d := readDefinition(t, plural)
		d.Labels = labels
		return d
	}
	ours := readDefinition(t, "datasources").Labels
	cdis := map[string]string{"operator.cdi.kubevirt.io": "", "cdi.kubevirt.io": ""}
	another, anotherBefore := definition("datasources", ours), definition("datasources", cdis)
	another.Spec.Group, anotherBefore.Spec.Group = "kinds.example.org", "kinds.example.org"
	for name, test := range map[string]struct {
		operation     admission.Operation
		before, after *apiextensionsv1.CustomResourceDefinition
		refused       bool
	}{
		"ours over CDI's":                 {admission.Update, definition("dataimportcrons", cdis), definition("dataimportcrons", ours), true},
		"ours over CDI's, another kind":   {admission.Update, definition("storageprofiles", cdis), definition("storageprofiles", ours), true},
		"ours over one without labels":    {admission.Update, definition("datasources", nil), definition("datasources", ours), true},
		"ours over an older one of ours":  {admission.Update, definition("datasources", ours), definition("datasources", ours), false},
		"ours where there is none":        {admission.Create, nil, definition("datasources", ours), false},
		"CDI's over CDI's":                {admission.Update, definition("datasources", cdis), definition("datasources", cdis), false},
		"CDI's over ours":                 {admission.Update, definition("datasources", ours), definition("datasources", cdis), false},
		"without labels before and after": {admission.Update, definition("datasources", nil), definition("datasources", nil), false},
		"a definition of another group":   {admission.Update, anotherBefore, another, false},
		"the label without its value":     {admission.Update, definition("datasources", cdis), definition("datasources", map[string]string{cdi.LabelOwned: "false"}), true},
		"deleting one of CDI's":           {admission.Delete, definition("datasources", cdis), nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			refusal := g.refusal(t, test.operation, test.before, test.after)
			if !test.refused {
				require.Empty(t, refusal)
				return
			}
			require.True(t, strings.HasPrefix(refusal, test.after.GetName()+" was not made by Gild"), refusal)
			require.Contains(t, refusal, "do without deploy/cdi")
		})
	}
}
