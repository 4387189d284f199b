package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/gild-project/gild/test/registry/fault"
)

const (
	tokenPath    = "/auth/token"
	tokenService = "gild-registry"
	tokenIssuer  = "gild-registry-tokens"
	tokenKeyID   = "gild"
	// publicPrefix begins the repositories that anybody gets a token for.
	publicPrefix = "library/"
)

// tokenServer gives tokens for the registry that wants them.
type tokenServer struct {
	users  *users
	faults *fault.Front
	signer jose.Signer
}

// newTokenServer makes a key, and writes what the registry needs to know it to keys.
func newTokenServer(u *users, faults *fault.Front, keys string) (*tokenServer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: tokenKeyID}}, nil)
	if err != nil {
		return nil, fmt.Errorf("making a signer: %w", err)
	}
	public, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: tokenKeyID, Algorithm: string(jose.ES256), Use: "sig"}}})
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	if err := os.WriteFile(keys, public, 0o600); err != nil {
		return nil, fmt.Errorf("writing a key: %w", err)
	}
	return &tokenServer{users: u, faults: faults, signer: signer}, nil
}

// ServeHTTP gives a token for what is asked for and may be had.
func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, password, given := r.BasicAuth()
	if given && !s.users.knows(name, password) {
		w.Header().Set("WWW-Authenticate", `Basic realm="gild-registry"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`, http.StatusUnauthorized)
		return
	}
	life := 10 * time.Minute
	var access []*token.ResourceActions
	for _, scope := range r.URL.Query()["scope"] {
		for one := range strings.FieldsSeq(scope) {
			parts := strings.Split(one, ":")
			if len(parts) != 3 || !given && !strings.HasPrefix(parts[1], publicPrefix) || !slices.Contains(strings.Split(parts[2], ","), "pull") {
				continue
			}
			life = min(life, s.faults.TokenLife(parts[1]))
			access = append(access, &token.ResourceActions{Type: parts[0], Name: parts[1], Actions: []string{"pull"}})
		}
	}
	now := time.Now()
	text, err := jwt.Signed(s.signer).Claims(token.ClaimSet{
		Issuer: tokenIssuer, Subject: name, Audience: token.AudienceList{tokenService}, Access: access,
		// The registry takes a token for a while after its time.
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expiration: now.Add(life - token.Leeway).Unix(),
	}).Serialize()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// It does not tell how long it lives: that is not sure anyway, and clients must take a 401 at any time.
	_ = json.NewEncoder(w).Encode(map[string]string{"token": text})
}
