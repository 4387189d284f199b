// Package fault stands in front of a registry and makes it misbehave as a test asks for, and
// remembers what the registry was asked.
package fault

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// What a request asks for.
const (
	Manifest = "manifest"
	Blob     = "blob"
	Token    = "token"
	Other    = "other"
)

// Fault is one way to misbehave. Its zero value does nothing.
type Fault struct {
	// On is what it is for: manifest, blob or token; empty for all of them. Digest names the one blob
	// that it is for; empty for all.
	On     string `json:"on,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Skip lets so many requests pass first, Times ends the fault after so many; 0 means never. For CutAfter they count
	// the bodies that are long enough.
	Skip  int `json:"skip,omitempty"`
	Times int `json:"times,omitempty"`

	// Status is answered in place of what was asked for, with RetryAfter when that is not empty.
	Status     int    `json:"status,omitempty"`
	RetryAfter string `json:"retryAfter,omitempty"`
	// PadTo serves a manifest with white space up to so many bytes.
	PadTo int `json:"padTo,omitempty"`
	// TokenSeconds is how long a token lives; 0 means ten minutes.
	TokenSeconds int `json:"tokenSeconds,omitempty"`

	// CutAfter ends the connection after so many bytes of a body.
	CutAfter int64 `json:"cutAfter,omitempty"`
	// HoldAfter stops all bodies together after so many bytes, until the faults are set again.
	HoldAfter int64 `json:"holdAfter,omitempty"`
	// BytesPerSecond bounds all bodies together, however many connections they use.
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// FlipAt changes the byte before this offset of a body, as it is in the whole blob; 0 means none.
	FlipAt int64 `json:"flipAt,omitempty"`
}

// armed is a fault with what it has done so far, and the end of its time.
type armed struct {
	Fault
	replaced <-chan struct{}

	mu    sync.Mutex
	seen  int
	taken int64
	next  time.Time
}

// turn reports whether the fault is for a request.
func (a *armed) turn(kind, digest string) bool {
	if a.On != "" && a.On != kind || a.Digest != "" && a.Digest != digest {
		return false
	}
	return a.CutAfter > 0 || a.count()
}

// count counts one more request and reports whether the fault is for it.
func (a *armed) count() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen++
	return a.seen > a.Skip && (a.Times == 0 || a.seen <= a.Skip+a.Times)
}

// take takes up to n bytes of those that HoldAfter leaves.
func (a *armed) take(n int64) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	n = max(min(n, a.HoldAfter-a.taken), 0)
	a.taken += n
	return n
}

// due says when n more bytes may go.
func (a *armed) due(n int64, now time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	due := a.next
	if due.Before(now) {
		due = now
	}
	a.next = due.Add(time.Duration(float64(n) / float64(a.BytesPerSecond) * float64(time.Second)))
	return due
}

// Asked tells what a request is for: the repository, the kind, and the digest of a blob.
func Asked(r *http.Request) (repository, kind, digest string) {
	path, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	if !ok {
		for _, scope := range r.URL.Query()["scope"] {
			if parts := strings.Split(scope, ":"); len(parts) == 3 {
				return parts[1], Token, ""
			}
		}
		return "", Other, ""
	}
	if i := strings.LastIndex(path, "/manifests/"); i >= 0 {
		return path[:i], Manifest, ""
	}
	if i := strings.LastIndex(path, "/blobs/"); i >= 0 {
		return path[:i], Blob, path[i+len("/blobs/"):]
	}
	return "", Other, ""
}
