// Package server serves disk images over HTTP with the faults that a test asks for,
// and remembers what it was asked.
//
//	GET  /files/NAME              a published file
//	PUT  /control/files/NAME      publishes a File, given as JSON; answers under way go on with the old one, without delay
//	PUT  /control/blobs/NAME      uploads the bytes of a blob
//	GET  /control/requests/NAME   the requests for /files/NAME so far, as JSON
package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// Server is the handler of all the above. Blobs are kept in its folder.
type Server struct {
	mux  *http.ServeMux
	dir  string
	log  requestLog
	logf func(format string, args ...any)

	mu       sync.Mutex
	files    map[string]*published
	revision int
}

// New makes a Server that keeps blobs in dir and tells of its own trouble by logf.
func New(dir string, logf func(format string, args ...any)) *Server {
	s := &Server{mux: http.NewServeMux(), dir: dir, logf: logf, files: map[string]*published{}}
	s.mux.HandleFunc("GET /files/{name...}", s.get)
	s.mux.HandleFunc("PUT /control/files/{name...}", s.publish)
	s.mux.HandleFunc("PUT /control/blobs/{name...}", s.upload)
	s.mux.HandleFunc("GET /control/requests/{name...}", s.requests)
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mux.ServeHTTP(w, r)
}

func (s *Server) publish(w http.ResponseWriter, r *http.Request) {
	var file File
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		http.Error(w, "reading the file's description: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.place(r.PathValue("name"), file)
	w.WriteHeader(http.StatusNoContent)
}

// place puts file at name. New content has an ETag of its own. The caller holds the mutex.
func (s *Server) place(name string, file File) {
	s.revision++
	placed := &published{
		File:     file,
		etag:     strconv.Quote("revision-" + strconv.Itoa(s.revision)),
		modified: time.Now(),
		replaced: make(chan struct{}),
	}
	if old, ok := s.files[name]; ok {
		close(old.replaced)
		if old.same(file) {
			placed.etag, placed.modified = old.etag, old.modified
		}
	}
	s.files[name] = placed
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	if err := s.store(r.PathValue("name"), r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) store(name string, body io.Reader) error {
	file, err := os.Create(blobPath(s.dir, name))
	if err != nil {
		return fmt.Errorf("creating a blob: %w", err)
	}
	if _, err := io.Copy(file, body); err != nil {
		_ = file.Close()
		return fmt.Errorf("writing a blob: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("closing a blob: %w", err)
	}
	return nil
}

func (s *Server) requests(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(s.log.of(r.PathValue("name"))); err != nil {
		s.logf("answering the request log: %v", err)
	}
}

func (s *Server) get(writer http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	w := s.log.begin(name, writer, r)
	file, status := s.turn(name)
	if file == nil {
		http.NotFound(w, r)
		return
	}
	for key, value := range file.Headers {
		w.Header().Set(key, value)
	}
	if _, missing := file.missing(r); missing {
		w.Header().Set("WWW-Authenticate", `Basic realm="images"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	switch {
	case status != 0:
		http.Error(w, http.StatusText(status), status)
	case file.RedirectTo != "":
		http.Redirect(w, r, file.RedirectTo, http.StatusFound)
	default:
		s.serve(w, r, name, file)
	}
}

// turn finds the file at name, and the fault status of this request if any.
func (s *Server) turn(name string) (file *published, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	file = s.files[name]
	if file == nil || file.Status == 0 || file.StatusTimes > 0 && file.statuses >= file.StatusTimes {
		return file, 0
	}
	file.statuses++
	return file, file.Status
}

func (s *Server) serve(w *loggedWriter, r *http.Request, name string, file *published) {
	source, size, closeSource, err := file.open(s.dir)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer func() { _ = closeSource() }()
	if w.noRange = file.NoRange; file.NoRange {
		r.Header.Del("Range")
		r.Header.Del("If-Range")
	}
	if !file.NoETag {
		w.Header().Set("ETag", file.etag)
	}
	kind := file.ContentType
	if kind == "" {
		kind = "application/octet-stream"
	}
	w.Header().Set("Content-Type", kind)
	body := &content{ReaderAt: source, size: size, file: file, done: r.Context().Done(), left: -1}
	if file.CutAfter > 0 {
		body.left = file.CutAfter
	}
	modified := file.modified
	if file.NoLastModified {
		modified = time.Time{}
	}
	http.ServeContent(w, r, "", modified, body)
	if body.cut {
		s.replaceCut(name, file)
		s.hangUp(w, file.Reset)
	}
}

// replaceCut replaces a file whose bodies have been cut as often as they are to be.
func (s *Server) replaceCut(name string, file *published) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if file.AfterCut != nil && file.flow.cutOut(file.CutTimes) && s.files[name] == file {
		s.place(name, *file.AfterCut)
	}
}

// hangUp ends the connection of a body that is not complete; reset drops what the
// client has not read yet.
func (s *Server) hangUp(w *loggedWriter, reset bool) {
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil && !errors.Is(err, net.ErrClosed) {
		s.logf("flushing a body that ends early: %v", err)
	}
	conn, _, err := control.Hijack()
	if err != nil {
		s.logf("taking the connection to end it: %v", err)
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
