package main

import (
	"context"
	"net/http"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // so named in configurations
	_ "github.com/distribution/distribution/v3/registry/auth/token"    // so named in configurations
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"          // so named in configurations
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/redirect" // so named in configurations
)

// newRegistry is distribution's registry over a folder. edit changes its configuration first.
func newRegistry(ctx context.Context, folder string, edit func(*configuration.Configuration)) http.Handler {
	config := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			"filesystem":  {"rootdirectory": folder},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}},
			"redirect":    {"disable": true},
		},
	}
	config.HTTP.Secret = "uploads go on at any of our ports" // or each port makes its own
	config.HTTP.RelativeURLs = true
	// Indexes may name images that are not there, and layers may come from anywhere: it is for the client to refuse them.
	config.Validation.Manifests.Indexes.Platforms = "none"
	config.Validation.Manifests.URLs.Allow = []string{".*"}
	if edit != nil {
		edit(config)
	}
	return handlers.NewApp(ctx, config)
}

// withUsers wants basic authentication.
func withUsers(file string) func(*configuration.Configuration) {
	return func(config *configuration.Configuration) {
		config.Auth = configuration.Auth{"htpasswd": {"realm": "gild-registry", "path": file}}
	}
}

// withTokens wants a token of the token server on the same host.
func withTokens(keys string) func(*configuration.Configuration) {
	return func(config *configuration.Configuration) {
		config.Auth = configuration.Auth{"token": {
			"realm": "https://none.invalid", "service": tokenService, "issuer": tokenIssuer, "jwks": keys,
			"autoredirect": true, "autoredirectpath": tokenPath,
		}}
	}
}

// withStore wants basic authentication and has its blobs elsewhere.
func withStore(file, url string) func(*configuration.Configuration) {
	return func(config *configuration.Configuration) {
		withUsers(file)(config)
		config.Storage["redirect"] = configuration.Parameters{"disable": false}
		config.Middleware = map[string][]configuration.Middleware{
			"storage": {{Name: "redirect", Options: configuration.Parameters{"baseurl": url}}},
		}
	}
}
