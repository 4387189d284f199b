package cdi_test

import (
	"path/filepath"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/gild-project/gild/test/definition"
)

func definitionFile(plural string) string {
	return filepath.Join("..", "..", "deploy", "cdi", "crds", "cdi.kubevirt.io_"+plural+".yaml")
}

func readDefinition(t *testing.T, plural string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	return definition.Read(t, definitionFile(plural))
}

// loadKind loads one of the kinds that deploy/cdi ships.
func loadKind(t *testing.T, plural string) *definition.Kind {
	t.Helper()
	return definition.Load(t, definitionFile(plural))
}
