package golden_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/golden"
)

func TestLabelsThatArePassedOn(t *testing.T) {
	for label, want := range map[string]bool{
		"instancetype.kubevirt.io/default-instancetype": true,
		"kubevirt.io/dynamic-credentials-support":       true,
		"template.os.kubevirt.io/x":                     true,
		golden.LabelCron:                                false,
		golden.LabelCleanup:                             false,
		"app.kubernetes.io/name":                        false,
		"evilkubevirt.io/x":                             false,
		"kubevirt.io":                                   false,
	} {
		require.Equal(t, want, golden.PassesLabel(label), label)
	}
}
