package v1alpha1_test

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

// kind is one of our kinds as the API server sees it: its generated definition, run by the API server's own code.
type kind struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
	columns    []apiextensionsv1.CustomResourceColumnDefinition
}

// costLimit is what the API server lets a rule cost at most, as it estimates it; it refuses a definition with a dearer one.
const costLimit = 10_000_000

func loadKind(t *testing.T, plural string) *kind {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "deploy", "crds", "virtualization.k8s.io_"+plural+".yaml"))
	require.NoError(t, err)
	crd := &apiextensionsv1.CustomResourceDefinition{}
	require.NoError(t, yaml.UnmarshalStrict(data, crd))
	props := &apiextensions.JSONSchemaProps{}
	require.NoError(t, apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, props, nil))
	k := &kind{columns: crd.Spec.Versions[0].AdditionalPrinterColumns}
	k.structural, err = schema.NewStructural(props)
	require.NoError(t, err)
	k.schema, _, err = validation.NewSchemaValidator(props)
	require.NoError(t, err)
	requireCheap(t, k.structural, true)
	k.rules = cel.NewValidator(k.structural, true, apiservercel.PerCallLimit)
	require.NotNil(t, k.rules)
	return k
}

// requireCheap checks that each rule compiles and costs no more than it may. None of ours stands in a list.
func requireCheap(t *testing.T, s *schema.Structural, root bool) {
	t.Helper()
	env := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	results, err := cel.Compile(s, model.SchemaDeclType(s, root), apiservercel.PerCallLimit, env, cel.NewExpressionsEnvLoader())
	require.NoError(t, err)
	for i, result := range results {
		require.Nil(t, result.Error, s.XValidations[i].Rule)
		require.Less(t, result.MaxCost, uint64(costLimit), s.XValidations[i].Rule)
	}
	for _, property := range s.Properties {
		requireCheap(t, &property, false)
	}
}

// create does to an object what the API server does when it is created, and returns what it is refused for.
func (k *kind) create(ctx context.Context, object *unstructured.Unstructured) error {
	unknown := pruning.PruneWithOptions(object.Object, k.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return field.Invalid(field.NewPath(unknown[0]), nil, "unknown field")
	}
	defaulting.Default(object.Object, k.structural)
	refused := validation.ValidateCustomResource(nil, object.Object, k.schema)
	if len(refused) == 0 {
		refused, _ = k.rules.Validate(ctx, nil, k.structural, object.Object, nil, apiservercel.RuntimeCELCostBudget)
	}
	return refused.ToAggregate()
}

// column is what kubectl get shows of an object in a column of text. The API server finds it like this: by the first result
// of the first path.
func (k *kind) column(t *testing.T, object *unstructured.Unstructured, name string) string {
	t.Helper()
	for _, column := range k.columns {
		if column.Name != name {
			continue
		}
		path := jsonpath.New(name).AllowMissingKeys(true)
		require.NoError(t, path.Parse("{"+column.JSONPath+"}"))
		results, err := path.FindResults(object.Object)
		require.NoError(t, err)
		require.NotEmpty(t, results)
		require.NotEmpty(t, results[0])
		var text strings.Builder
		require.NoError(t, path.PrintResults(&text, results[0][:1]))
		return text.String()
	}
	t.Fatalf("no column %s", name)
	return ""
}

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &object.Object))
	return object
}
