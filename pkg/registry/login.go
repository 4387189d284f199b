package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/gild-project/gild/pkg/source"
)

// maxToken bounds the answer of a token server, in bytes.
const maxToken = 1 << 20

// login answers a 401 of the endpoint, as source.Options.Login. It gets a new token each time:
// the one before is what was refused.
func (e *endpoint) login(ctx context.Context, refused http.Header) (string, error) {
	headers := refused.Values("WWW-Authenticate")
	if c, found := findChallenge(headers, "bearer"); found {
		if strings.HasPrefix(e.authorization, "Bearer ") {
			return e.authorization, nil
		}
		return e.token(ctx, c)
	}
	if _, found := findChallenge(headers, "basic"); found && strings.HasPrefix(e.authorization, "Basic ") {
		return e.authorization, nil
	}
	if e.authorization == "" {
		return "", fail(source.AuthenticationFailed, "%s wants credentials for %s: give a secret", e.host, e.repository)
	}
	return "", fail(source.AuthenticationFailed, "%s does not take credentials of the kind that the secret has for it", e.host)
}

// token asks the server that the registry names for a token that may pull the repository and
// nothing else, whatever the registry proposes.
func (e *endpoint) token(ctx context.Context, c challenge) (string, error) {
	at := "logging in to " + e.host
	realm, err := url.Parse(c.parameters["realm"])
	switch {
	case err != nil || realm.Scheme != "http" && realm.Scheme != "https" || realm.Hostname() == "":
		return "", fail(source.AuthenticationFailed, "%s: it does not name its token server by a URL", at)
	case realm.Scheme == "http" && e.scheme() == "https":
		return "", fail(source.AuthenticationFailed, "%s: its token server %s has no TLS: secrets are not sent there", at, realm.Host)
	}
	query := realm.Query()
	if service := c.parameters["service"]; service != "" {
		query.Set("service", service)
	}
	query.Set("scope", "repository:"+e.repository+":pull")
	realm.RawQuery = query.Encode()
	o := e.options()
	o.OpenTries = 1 // whoever asked for the login tries again
	o.Start = e.starts[e.scheme()]
	o.Credentials = source.Authorized(e.authorization)
	image, err := source.Open(ctx, realm.String(), o)
	if err != nil {
		return "", fmt.Errorf("%s: %w", at, err)
	}
	body, err := io.ReadAll(io.LimitReader(reader{ctx, image}, maxToken))
	if err = closed(image, err); err != nil {
		return "", fmt.Errorf("%s: %w", at, err)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	token := ""
	if json.Unmarshal(body, &answer) == nil {
		if token = answer.Token; token == "" {
			token = answer.AccessToken
		}
	}
	if token == "" || !httpguts.ValidHeaderFieldValue(token) {
		return "", fail(source.AuthenticationFailed, "%s: the token server %s sends no token", at, realm.Host)
	}
	return "Bearer " + token, nil
}

// reader reads a blob like an io.Reader, for a call that keeps to ctx.
type reader struct {
	ctx  context.Context //nolint:containedctx // lives for one call only
	blob Blob
}

func (r reader) Read(p []byte) (int, error) { return r.blob.Read(r.ctx, p) }

// closed closes c and returns err, or what closing says.
func closed(c io.Closer, err error) error {
	if closing := c.Close(); err == nil {
		return closing
	}
	return err
}
