//go:build !containers_image_openpgp

package registry

import (
	"context"
	"encoding/json"
	"os"

	"github.com/containers/image/v5/docker/reference"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// verifyRemote refuses what it cannot judge.
func verifyRemote(_ context.Context, name string, _ reference.Named, _ []*endpoint, _ chosen, o Options) error {
	return unsigned(name, o)
}

// verifyLocal refuses what it cannot judge.
func verifyLocal(_ context.Context, name string, _ corner, _ chosen, o Options) error {
	return unsigned(name, o)
}

// unsigned lets an image pass when policy.json wants nothing of any.
func unsigned(name string, o Options) error {
	path, err := policyFile(o)
	if path == "" || err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return failBy(invalidOptions, "reading policy.json", plainPath(err))
	}
	type requirements []struct {
		Type string `json:"type"`
	}
	var policy struct {
		Default    requirements                       `json:"default"`
		Transports map[string]map[string]requirements `json:"transports"`
	}
	if json.Unmarshal(content, &policy) != nil {
		return fail(invalidOptions, "reading policy.json: it cannot be read")
	}
	all := []requirements{policy.Default}
	for _, scopes := range policy.Transports {
		for _, r := range scopes {
			all = append(all, r)
		}
	}
	for _, r := range all {
		if len(r) != 1 || r[0].Type != "insecureAcceptAnything" {
			return fail(refusal.InternalError, "policy.json wants %s to be judged, and this importer was built without signatures: use the published image", name)
		}
	}
	return nil
}
