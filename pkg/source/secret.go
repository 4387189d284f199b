package source

import (
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxSecretFile bounds one file: a Kubernetes Secret has at most 1 MiB in all.
const maxSecretFile = 1 << 20

// Credentials are the secret headers of one source.
type Credentials struct {
	header http.Header
}

// Authorized are credentials of one Authorization header; empty is none.
func Authorized(authorization string) Credentials {
	c := Credentials{header: http.Header{}}
	if authorization != "" {
		c.header.Set("Authorization", authorization)
	}
	return c
}

// Authorization is the header of that name, empty for none.
func (c Credentials) Authorization() string { return c.header.Get("Authorization") }

// ReadCredentials reads a directory of secrets, as Kubernetes mounts one:
//   - username and password, or accessKeyId and secretKey as KubeVirt calls them: basic authentication;
//   - token: bearer authentication;
//   - every file below headers/: lines "Name: value", sent as they are.
//
// An empty dir is no credentials. Errors name files and never repeat their content.
func ReadCredentials(dir string) (Credentials, error) {
	c := Credentials{header: http.Header{}}
	if dir == "" {
		return c, nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return Credentials{}, fail(InvalidSecret, "reading secrets: the secret directory does not exist")
	}
	if err := c.readHeaders(filepath.Join(dir, "headers")); err != nil {
		return Credentials{}, failBy(InvalidSecret, "reading secrets", err)
	}
	if err := c.readAuthorization(dir); err != nil {
		return Credentials{}, failBy(InvalidSecret, "reading secrets", err)
	}
	return c, nil
}

func (c *Credentials) readAuthorization(dir string) error {
	var ways []string
	if c.header.Get("Authorization") != "" {
		ways = append(ways, "an Authorization header")
	}
	for _, pair := range [][2]string{{"username", "password"}, {"accessKeyId", "secretKey"}} {
		user, hasUser, err := readSecret(filepath.Join(dir, pair[0]))
		if err != nil {
			return err
		}
		password, hasPassword, err := readSecret(filepath.Join(dir, pair[1]))
		if err != nil {
			return err
		}
		switch {
		case hasUser != hasPassword:
			return fmt.Errorf("the secret needs both %s and %s", pair[0], pair[1])
		case hasUser && strings.Contains(user, ":"):
			return fmt.Errorf("%s must not hold a colon", pair[0])
		case hasUser:
			ways = append(ways, pair[0])
			r := http.Request{Header: c.header}
			r.SetBasicAuth(user, password)
		}
	}
	token, hasToken, err := readSecret(filepath.Join(dir, "token"))
	if err != nil {
		return err
	}
	if hasToken {
		if token == "" || !httpguts.ValidHeaderFieldValue(token) {
			return errors.New("token cannot be sent in a header")
		}
		ways = append(ways, "token")
		c.header.Set("Authorization", "Bearer "+token)
	}
	if len(ways) > 1 {
		return fmt.Errorf("the secret holds %s: only one may be there", strings.Join(ways, " and "))
	}
	return nil
}

// readHeaders reads the files below dir, in the order of their names.
func (c *Credentials) readHeaders(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errors.New("the headers directory cannot be read")
	}
	for _, entry := range entries {
		name := entry.Name()
		// Kubernetes keeps the real files in ..data and links to them.
		if strings.HasPrefix(name, "..") {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			if err := c.readHeaders(path); err != nil {
				return err
			}
			continue
		}
		text, found, err := readSecret(path)
		if err != nil {
			return err
		}
		if !found {
			continue
		}
		for i, line := range strings.Split(text, "\n") {
			if line = strings.TrimSuffix(line, "\r"); strings.TrimSpace(line) == "" {
				continue
			}
			if err := c.addHeader(line); err != nil {
				return fmt.Errorf("headers/%s line %d: %w", name, i+1, err)
			}
		}
	}
	return nil
}

func (c *Credentials) addHeader(line string) error {
	name, value, found := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
		return errors.New("write \"Name: value\"")
	}
	// These decide which bytes come back and are the importer's own.
	owned := []string{
		"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "If-Match", "If-Modified-Since", "If-None-Match",
		"If-Range", "If-Unmodified-Since", "Range", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	if slices.Contains(owned, name) {
		return fmt.Errorf("the header %s is set by the importer", name)
	}
	c.header.Add(name, value)
	return nil
}

// readSecret reads one value without the newline that editors add.
func readSecret(path string) (value string, found bool, err error) {
	name := filepath.Base(path)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", false, nil
	case err != nil, !info.Mode().IsRegular():
		return "", false, fmt.Errorf("%s cannot be read", name)
	case info.Size() > maxSecretFile:
		return "", false, fmt.Errorf("%s is larger than 1 MiB", name)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", false, fmt.Errorf("%s cannot be read", name)
	}
	return strings.TrimRight(string(content), "\r\n"), true, nil
}
