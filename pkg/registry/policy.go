package registry

import (
	"errors"
	"os"
	"path/filepath"
)

// policyFile returns the path of policy.json, empty when there is none: then no image needs a
// signature.
func policyFile(o Options) (string, error) {
	path := filepath.Join(o.ConfigDir, "policy.json")
	switch _, err := os.Stat(path); {
	case err == nil:
		return path, nil
	case errors.Is(err, os.ErrNotExist):
		return "", nil
	default:
		return "", failBy(invalidOptions, "reading policy.json", plainPath(err))
	}
}
