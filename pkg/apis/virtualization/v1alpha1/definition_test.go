package v1alpha1_test

import (
	"path/filepath"
	"testing"

	"github.com/gild-project/gild/test/definition"
)

// loadKind loads one of our kinds.
func loadKind(t *testing.T, plural string) *definition.Kind {
	t.Helper()
	return definition.Load(t, filepath.Join("..", "..", "..", "..", "deploy", "crds", "virtualization.k8s.io_"+plural+".yaml"))
}
