package main

import (
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// users may pull. The registry with basic authentication reads them from a file.
type users struct {
	file string

	mu        sync.Mutex
	passwords map[string]string
}

// put adds the user of the path with the password of the body.
func (u *users) put(w http.ResponseWriter, r *http.Request) {
	password, err := io.ReadAll(io.LimitReader(r.Body, 72)) // more is too long for bcrypt
	if err == nil {
		err = u.add(r.PathValue("user"), string(password))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (u *users) add(name, password string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.passwords[name] = password
	var lines strings.Builder
	for name, password := range u.passwords {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			return fmt.Errorf("hashing a password: %w", err)
		}
		_, _ = fmt.Fprintf(&lines, "%s:%s\n", name, hash)
	}
	// A registry that reads it meanwhile sees the old file or the new one.
	if err := os.WriteFile(u.file+".part", []byte(lines.String()), 0o600); err != nil {
		return fmt.Errorf("writing the users: %w", err)
	}
	if err := os.Rename(u.file+".part", u.file); err != nil {
		return fmt.Errorf("writing the users: %w", err)
	}
	return nil
}

// knows reports whether the password is the user's.
func (u *users) knows(name, password string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	want, ok := u.passwords[name]
	return ok && subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1
}
