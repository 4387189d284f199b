//go:build e2e

package e2e

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
)

// sizeIn finds the size in a message that a user can put into a claim: the largest quantity
// that is written as a claim wants it, and that is enough for a disk of so many bytes.
func sizeIn(t *testing.T, message string, disk int64) int64 {
	t.Helper()
	var largest int64
	for _, text := range regexp.MustCompile(`\b[0-9]+(Ki|Mi|Gi|Ti)?\b`).FindAllString(message, -1) {
		if quantity, err := resource.ParseQuantity(text); err == nil {
			largest = max(largest, quantity.Value())
		}
	}
	require.GreaterOrEqual(t, largest, disk, "the message names no size to ask for: %s", message)
	require.Less(t, largest, 2*disk, "the message asks for too much: %s", message)
	return largest
}
