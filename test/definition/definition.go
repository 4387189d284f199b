// Package definition runs the definitions of kinds (CRDs) in tests as the API server runs them, with
// the API server's own code.
package definition

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiservercel "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

// Kind is a kind as the API server sees it.
type Kind struct {
	// Definition is the CRD.
	Definition *apiextensionsv1.CustomResourceDefinition
	// Structural is the schema of its version.
	Structural *schema.Structural

	schema validation.SchemaValidator
	rules  *cel.Validator
}

// Read reads the definition in a file.
func Read(t *testing.T, path string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	definition := &apiextensionsv1.CustomResourceDefinition{}
	require.NoError(t, yaml.UnmarshalStrict(data, definition))
	return definition
}

// Load reads the definition in a file, whose first version counts, and checks its rules as the API
// server does when it is applied.
func Load(t *testing.T, path string) *Kind {
	t.Helper()
	k := &Kind{Definition: Read(t, path)}
	props := &apiextensions.JSONSchemaProps{}
	require.NoError(t, apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(k.Definition.Spec.Versions[0].Schema.OpenAPIV3Schema, props, nil))
	var err error
	k.Structural, err = schema.NewStructural(props)
	require.NoError(t, err)
	k.schema, _, err = validation.NewSchemaValidator(props)
	require.NoError(t, err)
	require.Empty(t, schema.ValidateStructural(nil, k.Structural))
	require.Less(t, requireCheap(t, k.Structural, true, 1), uint64(totalLimit))
	k.rules = cel.NewValidator(k.Structural, true, apiservercel.PerCallLimit)
	return k
}

// Update does to an object what the API server does when it is updated, or created if old is nil,
// and returns what it is refused for.
func (k *Kind) Update(ctx context.Context, object, old *unstructured.Unstructured) error {
	unknown := pruning.PruneWithOptions(object.Object, k.Structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	if len(unknown) > 0 {
		return field.Invalid(field.NewPath(unknown[0]), nil, "unknown field")
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object.Object, k.Structural)
	defaulting.Default(object.Object, k.Structural)
	var before any
	if old != nil {
		before = old.Object
	}
	refused := validation.ValidateCustomResource(nil, object.Object, k.schema)
	if len(refused) == 0 && k.rules != nil {
		refused, _ = k.rules.Validate(ctx, nil, k.Structural, object.Object, before, apiservercel.RuntimeCELCostBudget)
	}
	return refused.ToAggregate()
}

// Create does to an object what the API server does when it is created, and returns what it is
// refused for.
func (k *Kind) Create(ctx context.Context, object *unstructured.Unstructured) error {
	return k.Update(ctx, object, nil)
}

// Column is what kubectl get shows of an object in a column; the API server finds it like this.
func (k *Kind) Column(t *testing.T, object *unstructured.Unstructured, name string) string {
	t.Helper()
	for _, column := range k.Definition.Spec.Versions[0].AdditionalPrinterColumns {
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

// Parse reads an object from YAML, with whole numbers, unlike yaml.Unmarshal.
func Parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	require.NoError(t, err)
	object := &unstructured.Unstructured{}
	require.NoError(t, object.UnmarshalJSON(data))
	return object
}

// Folder is where a module that go.mod names lies: some bring the definitions of their kinds.
func Folder(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	require.NoError(t, err)
	folder := strings.TrimSpace(string(out))
	require.DirExists(t, folder)
	return folder
}
