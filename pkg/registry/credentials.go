package registry

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"golang.org/x/net/http/httpguts"

	"github.com/gild-project/gild/pkg/source"
)

// maxSecretFile bounds the configuration of docker: a Kubernetes Secret has at most 1 MiB in all.
const maxSecretFile = 1 << 20

// Credentials are the secrets of one or many registries.
type Credentials struct {
	// authorization is for the registry of the reference itself, and for none of its mirrors.
	authorization string
	// entries are those of docker, by registry, with or without a path.
	entries map[string]authn.AuthConfig
}

// ReadCredentials reads a directory of secrets, as Kubernetes mounts one:
//   - .dockerconfigjson or config.json: what docker login writes. The entry with the longest path
//     that fits counts, as in auth.json of containers/image;
//   - username and password, accessKeyId and secretKey, or token, as source.ReadCredentials has
//     them: for the registry that the reference names. A token goes to it as it is.
//
// An empty dir is no credentials. Errors name files and never repeat their content.
func ReadCredentials(dir string) (Credentials, error) {
	if dir == "" {
		return Credentials{}, nil
	}
	plain, err := source.ReadCredentials(dir)
	if err != nil {
		return Credentials{}, err
	}
	c := Credentials{authorization: plain.Authorization()}
	found := ""
	for _, file := range []string{".dockerconfigjson", "config.json"} {
		content, err := readSecret(filepath.Join(dir, file))
		if err != nil {
			return Credentials{}, fail(source.InvalidSecret, "reading secrets: %s cannot be read", file)
		}
		if content == nil {
			continue
		}
		if found != "" || c.authorization != "" {
			return Credentials{}, fail(source.InvalidSecret, "reading secrets: the secret holds %s beside other credentials: only one may be there", file)
		}
		found = file
		if c.entries, err = parseEntries(content); err != nil {
			return Credentials{}, failBy(source.InvalidSecret, "reading secrets: "+file, err)
		}
	}
	return c, nil
}

// readSecret returns nil without a file.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular(), info.Size() > maxSecretFile:
		return nil, errors.New("not a file of at most 1 MiB")
	}
	return os.ReadFile(path)
}

// parseEntries reads the configuration of docker. Programs that it names are never started.
func parseEntries(content []byte) (map[string]authn.AuthConfig, error) {
	var file struct {
		Entries map[string]json.RawMessage `json:"auths"`
		Store   string                     `json:"credsStore"`
		Helpers map[string]string          `json:"credHelpers"`
	}
	if json.Unmarshal(content, &file) != nil {
		return nil, errors.New("it is not the JSON that docker login writes")
	}
	if len(file.Entries) == 0 && (file.Store != "" || len(file.Helpers) > 0) {
		return nil, errors.New("it names programs that know the secrets, which are not started: put the secrets into auths")
	}
	entries := map[string]authn.AuthConfig{}
	for key, text := range file.Entries {
		var entry authn.AuthConfig
		// The error may repeat what it could not decode.
		if json.Unmarshal(text, &entry) != nil {
			return nil, errors.New("an entry of auths cannot be decoded: it needs auth, the base64 of USER:PASSWORD")
		}
		if !httpguts.ValidHeaderFieldValue(entry.RegistryToken) {
			return nil, errors.New("a registrytoken cannot be sent in a header")
		}
		entries[key] = entry
	}
	return entries, nil
}

// of returns what the registry of endpoint may be sent, empty for nothing. named is the
// reference that the user gave.
func (c Credentials) of(named, endpoint reference.Named) (string, error) {
	if c.authorization != "" {
		if reference.Domain(named) == reference.Domain(endpoint) {
			return c.authorization, nil
		}
		return "", nil
	}
	entry, found := c.entry(endpoint)
	switch {
	case !found:
		return "", nil
	case entry.RegistryToken != "":
		return "Bearer " + entry.RegistryToken, nil
	case entry.IdentityToken != "":
		return "", fail(source.InvalidSecret, "the secret holds an identity token for %s, which is not supported: give a user and a password", reference.Domain(endpoint))
	case entry.Username == "" && entry.Password == "":
		return "", nil
	}
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(entry.Username, entry.Password)
	return r.Header.Get("Authorization"), nil
}

// entry finds the one with the longest path that fits, then one for the host written in another
// way.
func (c Credentials) entry(endpoint reference.Named) (authn.AuthConfig, bool) {
	for key := endpoint.Name(); ; {
		if entry, found := c.entries[key]; found {
			return entry, true
		}
		cut := strings.LastIndex(key, "/")
		if cut < 0 {
			break
		}
		key = key[:cut]
	}
	host, err := registryHost(reference.Domain(endpoint))
	if err != nil {
		return authn.AuthConfig{}, false
	}
	for key, entry := range c.entries {
		// docker login has written https://HOST/v1/ too.
		text := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
		if text != key {
			text, _, _ = strings.Cut(text, "/")
		}
		if other, err := registryHost(text); err == nil && other == host {
			return entry, true
		}
	}
	return authn.AuthConfig{}, false
}

// registryHost is where the API of a registry is: one of them has another name in references.
func registryHost(domain string) (string, error) {
	registry, err := name.NewRegistry(domain, name.StrictValidation)
	if err != nil {
		return "", fail(source.SourceRefused, "%.200q is not the host of a registry", domain)
	}
	return registry.RegistryStr(), nil
}
