package cdi_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/test/definition"
)

func TestSeedsApplyVerbatim(t *testing.T) {
	crons := loadKind(t, "dataimportcrons")
	for _, name := range []string{"http", "registry", "imagestream"} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", "seed-"+name+".yaml"))
			require.NoError(t, err)
			require.NoError(t, crons.Create(t.Context(), definition.Parse(t, string(data))))
		})
	}
}
