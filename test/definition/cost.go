package definition

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	apiservercel "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// What the API server lets one rule, and all rules of a definition, cost at most, as it estimates it.
// It refuses a dearer one.
const (
	costLimit  = 10_000_000
	totalLimit = 100_000_000
)

// unbounded is how many items a list without a limit is taken to have. No list of ours with rules in
// it is longer.
const unbounded = 1000

// requireCheap checks that each rule compiles and costs no more than it may, and returns what all
// cost in an object with so many copies of s.
func requireCheap(t *testing.T, s *schema.Structural, root bool, copies uint64) uint64 {
	t.Helper()
	var total uint64
	if len(s.XValidations) > 0 {
		env := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
		results, err := cel.Compile(s, model.SchemaDeclType(s, root), apiservercel.PerCallLimit, env, cel.NewExpressionsEnvLoader())
		require.NoError(t, err)
		for i, result := range results {
			require.Nil(t, result.Error, s.XValidations[i].Rule)
			require.Less(t, result.MaxCost*copies, uint64(costLimit), s.XValidations[i].Rule)
			total += result.MaxCost * copies
		}
	}
	for _, property := range s.Properties {
		total += requireCheap(t, &property, false, copies)
	}
	if s.Items != nil {
		many := uint64(unbounded)
		if s.ValueValidation != nil && s.ValueValidation.MaxItems != nil {
			many = uint64(*s.ValueValidation.MaxItems)
		}
		total += requireCheap(t, s.Items, false, copies*many)
	}
	return total
}
