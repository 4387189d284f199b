package cdi_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

// kind is one of the kinds as the API server sees it: its generated definition, run by the API server's own code.
type kind struct {
	definition *apiextensionsv1.CustomResourceDefinition
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

func readDefinition(t *testing.T, plural string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "cdi", "crds", "cdi.kubevirt.io_"+plural+".yaml"))
	require.NoError(t, err)
	definition := &apiextensionsv1.CustomResourceDefinition{}
	require.NoError(t, yaml.UnmarshalStrict(data, definition))
	return definition
}

// What the API server lets one rule, and all rules of a definition, cost at most, as it estimates it. It refuses a dearer one.
const (
	costLimit  = 10_000_000
	totalLimit = 100_000_000
)

// loadKind reads a kind's definition and checks its rules as the API server does when it is applied.
func loadKind(t *testing.T, plural string) *kind {
	t.Helper()
	k := &kind{definition: readDefinition(t, plural)}
	props := &apiextensions.JSONSchemaProps{}
	require.NoError(t, apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(k.definition.Spec.Versions[0].Schema.OpenAPIV3Schema, props, nil))
	var err error
	k.structural, err = schema.NewStructural(props)
	require.NoError(t, err)
	k.schema, _, err = validation.NewSchemaValidator(props)
	require.NoError(t, err)
	require.Empty(t, schema.ValidateStructural(nil, k.structural))
	require.Less(t, requireCheap(t, k.structural, true, 1), uint64(totalLimit))
	k.rules = cel.NewValidator(k.structural, true, apiservercel.PerCallLimit)
	require.NotNil(t, k.rules)
	return k
}

// requireCheap checks that each rule compiles and costs no more than it may, and returns what all cost in an object with so
// many copies of s.
func requireCheap(t *testing.T, s *schema.Structural, root bool, copies uint64) uint64 {
	t.Helper()
	env := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	results, err := cel.Compile(s, model.SchemaDeclType(s, root), apiservercel.PerCallLimit, env, cel.NewExpressionsEnvLoader())
	require.NoError(t, err)
	var total uint64
	for i, result := range results {
		require.Nil(t, result.Error, s.XValidations[i].Rule)
		require.Less(t, result.MaxCost*copies, uint64(costLimit), s.XValidations[i].Rule)
		total += result.MaxCost * copies
	}
	for _, property := range s.Properties {
		total += requireCheap(t, &property, false, copies)
	}
	if s.Items != nil {
		many := uint64(1000) // no list with rules in it is longer
		if s.ValueValidation != nil && s.ValueValidation.MaxItems != nil {
			many = uint64(*s.ValueValidation.MaxItems)
		}
		total += requireCheap(t, s.Items, false, copies*many)
	}
	return total
}

// update does to an object what the API server does when it is updated, or created if old is nil, and returns what it is refused
// for.
func (k *kind) update(ctx context.Context, object, old *unstructured.Unstructured) error {
	unknown := pruning.PruneWithOptions(object.Object, k.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return field.Invalid(field.NewPath(unknown[0]), nil, "unknown field")
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object.Object, k.structural)
	defaulting.Default(object.Object, k.structural)
	var before any
	if old != nil {
		before = old.Object
	}
	refused := validation.ValidateCustomResource(nil, object.Object, k.schema)
	if len(refused) == 0 {
		refused, _ = k.rules.Validate(ctx, nil, k.structural, object.Object, before, apiservercel.RuntimeCELCostBudget)
	}
	return refused.ToAggregate()
}

func (k *kind) create(ctx context.Context, object *unstructured.Unstructured) error {
	return k.update(ctx, object, nil)
}

// column is what kubectl get shows of an object in a column; the API server finds it like this.
func (k *kind) column(t *testing.T, object *unstructured.Unstructured, name string) string {
	t.Helper()
	for _, column := range k.definition.Spec.Versions[0].AdditionalPrinterColumns {
		if column.Name != name {
			continue
		}
		path := jsonpath.New(name).AllowMissingKeys(true)
		require.NoError(t, path.Parse("{"+column.JSONPath+"}"))
		results, err := path.FindResults(object.Object)
		require.NoError(t, err)
		if len(results) == 0 || len(results[0]) == 0 {
			return ""
		}
		var text strings.Builder
		require.NoError(t, path.PrintResults(&text, results[0][:1]))
		return text.String()
	}
	t.Fatalf("no column %s", name)
	return ""
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	object := &unstructured.Unstructured{}
	require.NoError(t, object.UnmarshalJSON(data)) // with whole numbers, unlike yaml.Unmarshal
	return object
}
