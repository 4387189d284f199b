//go:build !containers_image_openpgp

package registry_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPoliciesWithoutSignatures: a build that cannot judge refuses rather than to look away.
func TestPoliciesWithoutSignatures(t *testing.T) {
	d := draw(t, []byte("layer"), plan{})
	for policy, reason := range map[string]string{
		`{"default":[{"type":"insecureAcceptAnything"}]}`: "",
		`{"default":[{"type":"reject"}]}`:                 "InternalError",
		`{"default":[]}`:                                  "InternalError",
		`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"host.example":[{"type":"signedBy"}]}}}`:               "InternalError",
		`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"host.example":[{"type":"insecureAcceptAnything"}]}}}`: "",
		`{`: "InvalidOptions",
	} {
		for _, ref := range d.both(t) {
			o, _ := options(t)
			require.NoError(t, os.WriteFile(filepath.Join(o.ConfigDir, "policy.json"), []byte(policy), 0o600))
			if reason == "" {
				open(t, ref, o)
				continue
			}
			failure(t, ref, o, reason)
		}
	}
}
