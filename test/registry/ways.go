package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"

	"github.com/gild-project/gild/test/registry/fault"
)

// parts are what the ways to the images have in common.
type parts struct {
	// images, users and keys are below one folder.
	images, passwords, keys string
	storeURL                string
	users                   *users
	tokens                  *tokenServer
	faults                  *fault.Front
}

func newParts(dir, storeURL string, faults *fault.Front) (*parts, error) {
	p := &parts{
		storeURL: storeURL, faults: faults,
		images: filepath.Join(dir, "images"), passwords: filepath.Join(dir, "users"), keys: filepath.Join(dir, "keys.json"),
	}
	if err := os.MkdirAll(p.images, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the images: %w", err)
	}
	p.users = &users{file: p.passwords, passwords: map[string]string{}}
	// Without a user the registry would make one and tell its password.
	if err := p.users.add("nobody", tokenIssuer); err != nil {
		return nil, err
	}
	var err error
	p.tokens, err = newTokenServer(p.users, faults, p.keys)
	return p, err
}

// way is one way to the images.
type way struct {
	name    string
	tls     bool
	handler func(context.Context, *parts) http.Handler
}

func ways() []way {
	return []way{
		{"control", false, control},
		{"plain", false, open},
		{"guarded", false, guarded},
		{"tls", true, open},
		{"basic", true, guarded},
		{"token", true, withToken},
		{"redirect", true, redirecting},
		{"store", true, store},
	}
}

func control(ctx context.Context, p *parts) http.Handler {
	mux := http.NewServeMux()
	p.faults.Control(mux)
	mux.HandleFunc("PUT /control/users/{user}", p.users.put)
	mux.Handle("/v2/", newRegistry(ctx, p.images, nil))
	return mux
}

func open(ctx context.Context, p *parts) http.Handler {
	return p.faults.Around(newRegistry(ctx, p.images, nil))
}

func guarded(ctx context.Context, p *parts) http.Handler {
	return p.faults.Around(newRegistry(ctx, p.images, withUsers(p.passwords)))
}

func withToken(ctx context.Context, p *parts) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(tokenPath, p.tokens)
	mux.Handle("/", newRegistry(ctx, p.images, withTokens(p.keys)))
	return p.faults.Around(mux)
}

func redirecting(ctx context.Context, p *parts) http.Handler {
	return p.faults.Around(newRegistry(ctx, p.images, withStore(p.passwords, p.storeURL)))
}

// store gives blobs to anybody. It notes who asked under store/DIGEST, so that a test can tell
// what was shown to it, and refuses credentials, as stores with signed URLs do.
func store(_ context.Context, p *parts) http.Handler {
	files := http.FileServer(http.Dir(p.images))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// …/blobs/sha256/ab/abcd…/data
		p.faults.Note("store/"+path.Base(path.Dir(r.URL.Path)), r)
		if r.Header.Get("Authorization") != "" {
			http.Error(w, "only one way to authenticate, please", http.StatusBadRequest)
			return
		}
		files.ServeHTTP(w, r)
	})
}
