package policy

import (
	"strconv"
	"testing"

	celgo "github.com/google/cel-go/cel"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/cel/environment"
)

// matcher evaluates the match conditions of a policy.
type matcher = matchconditions.Matcher

func newCompiler(t *testing.T) *cel.CompositedCompiler {
	t.Helper()
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	require.NoError(t, err)
	return compiler
}

// compile compiles conditions as the API server does for a new policy, and requires that all compile.
func compile(t *testing.T, compiler *cel.CompositedCompiler, withAuthorizer bool, expressions ...cel.ExpressionAccessor) cel.ConditionEvaluator {
	t.Helper()
	evaluator := compiler.CompileCondition(expressions, cel.OptionalVariableDeclarations{HasAuthorizer: withAuthorizer}, environment.NewExpressions)
	require.Empty(t, evaluator.CompilationErrors())
	return evaluator
}

func compileConditions(t *testing.T, compiler *cel.CompositedCompiler, name string, conditions []admissionv1.MatchCondition, failure *admissionv1.FailurePolicyType) matcher {
	t.Helper()
	accessors := make([]cel.ExpressionAccessor, len(conditions))
	for i := range conditions {
		accessors[i] = (*matchconditions.MatchCondition)(&conditions[i])
	}
	return matchconditions.NewMatcher(compile(t, compiler, true, accessors...), failure, "policy", "validate", name)
}

// expression is one of a policy's as its evaluator wants it.
type expression struct {
	text    string
	returns *celgo.Type
}

func (e expression) GetExpression() string      { return e.text }
func (e expression) ReturnTypes() []*celgo.Type { return []*celgo.Type{e.returns} }

func compileValidating(t *testing.T, policy *admissionv1.ValidatingAdmissionPolicy) validatingPolicy {
	t.Helper()
	require.Empty(t, policy.Spec.Variables)
	compiler := newCompiler(t)
	var checks, messages []cel.ExpressionAccessor
	for _, v := range policy.Spec.Validations {
		checks = append(checks, expression{v.Expression, celgo.BoolType})
		message := v.MessageExpression
		if message == "" {
			message = strconv.Quote(v.Message)
		}
		messages = append(messages, expression{message, celgo.StringType})
	}
	return validatingPolicy{
		policy:   policy,
		matches:  compileConditions(t, compiler, policy.Name, policy.Spec.MatchConditions, policy.Spec.FailurePolicy),
		checks:   compile(t, compiler, true, checks...),
		messages: compile(t, compiler, false, messages...),
	}
}

func compileMutating(t *testing.T, policy *admissionv1.MutatingAdmissionPolicy) mutatingPolicy {
	t.Helper()
	require.Empty(t, policy.Spec.Variables)
	compiler := newCompiler(t)
	compiled := mutatingPolicy{policy: policy, matches: compileConditions(t, compiler, policy.Name, policy.Spec.MatchConditions, policy.Spec.FailurePolicy)}
	for _, mutation := range policy.Spec.Mutations {
		require.Equal(t, admissionv1.PatchTypeApplyConfiguration, mutation.PatchType)
		evaluator := compiler.CompileMutatingEvaluator(&patch.ApplyConfigurationCondition{Expression: mutation.ApplyConfiguration.Expression},
			cel.OptionalVariableDeclarations{HasAuthorizer: true, HasPatchTypes: true}, environment.NewExpressions)
		require.Empty(t, evaluator.CompilationErrors())
		compiled.patchers = append(compiled.patchers, patch.NewApplyConfigurationPatcher(evaluator))
	}
	return compiled
}
