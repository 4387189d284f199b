package exporter

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	// pathDisk, pathExtents and pathHealth are all that there is.
	pathDisk    = "/disk"
	pathExtents = "/extents"
	pathHealth  = "/healthz"
	// headerExtents tells a reader of the disk where to ask for its holes.
	headerExtents = "Gild-Extents"
	// writeTimeout is how long a reader may take none of the bytes that are ready.
	writeTimeout = 2 * time.Minute
)

// handler answers requests for one volume.
type handler struct {
	volume   *volume
	revision string
	// token is the sha256 of the bearer token: sums are of one length and compared in constant time.
	token [sha256.Size]byte
	idle  *idle
	now   func() time.Time
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.URL.Path == pathHealth {
		// The kubelet asks again and again: it is no reader that keeps the exporter alive.
		if allowed(w, r) {
			w.WriteHeader(http.StatusOK)
		}
		return
	}
	if !h.authorized(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "the token is missing or wrong", http.StatusUnauthorized)
		return
	}
	h.idle.begin()
	defer h.idle.end()
	if !allowed(w, r) {
		return
	}
	w = &patient{ResponseWriter: w, controller: http.NewResponseController(w), now: h.now}
	switch r.URL.Path {
	case pathDisk:
		h.disk(w, r)
	case pathExtents:
		h.extents(w, r)
	default:
		http.Error(w, "there is nothing but "+pathDisk, http.StatusNotFound)
	}
}

// allowed refuses all methods that do not read.
func allowed(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "the volume can only be read", http.StatusMethodNotAllowed)
	return false
}

func (h *handler) authorized(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], h.token[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// etag is strong: it is another one as soon as somebody has written to the volume.
func (h *handler) etag(s state) string {
	return fmt.Sprintf("%q", fmt.Sprintf("%s-%x", h.revision, s.changed.UnixNano()))
}

func (h *handler) disk(w http.ResponseWriter, r *http.Request) {
	s, err := h.volume.state()
	if err != nil {
		http.Error(w, "the volume cannot be read", http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", h.etag(s))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(headerExtents, pathExtents)
	// A read that fails cuts the answer short of its Content-Length, which the reader sees.
	http.ServeContent(w, r, "", time.Time{}, &content{volume: h.volume, state: s})
}

func (h *handler) extents(w http.ResponseWriter, r *http.Request) {
	before, err := h.volume.state()
	if err != nil {
		http.Error(w, "the volume cannot be read", http.StatusInternalServerError)
		return
	}
	e, err := h.volume.extents(r.Context(), before.size)
	after, stateErr := h.volume.state()
	if err != nil || stateErr != nil || !before.same(after) {
		http.Error(w, "the holes of the disk cannot be told", http.StatusServiceUnavailable)
		return
	}
	text, err := json.Marshal(e)
	if err != nil {
		http.Error(w, "the holes of the disk cannot be told", http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", h.etag(before))
	w.Header().Set("Content-Type", "application/json")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
}

// patient gives the reader writeTimeout for each write, and not for the whole answer.
type patient struct {
	http.ResponseWriter
	controller *http.ResponseController
	now        func() time.Time
}

// Write implements io.Writer.
func (p *patient) Write(b []byte) (int, error) {
	if err := p.controller.SetWriteDeadline(p.now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}
