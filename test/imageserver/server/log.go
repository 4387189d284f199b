package server

import (
	"net/http"
	"sync"
	"time"
)

// Request is one request that the server has seen.
type Request struct {
	Time   time.Time   `json:"time"`
	Method string      `json:"method"`
	Host   string      `json:"host"`
	TLS    bool        `json:"tls"`
	Header http.Header `json:"header"`
	// Status that was answered; 0 while the answer has not begun.
	Status int `json:"status"`
	// Bytes of the body handed to the connection so far.
	Bytes int64 `json:"bytes"`
}

// requestLog keeps the requests of each path.
type requestLog struct {
	mu     sync.Mutex
	byPath map[string][]*Request
}

// begin notes a request for path and returns a writer that notes its answer.
func (l *requestLog) begin(path string, w http.ResponseWriter, r *http.Request) *loggedWriter {
	entry := &Request{Time: time.Now(), Method: r.Method, Host: r.Host, TLS: r.TLS != nil, Header: r.Header.Clone()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byPath == nil {
		l.byPath = map[string][]*Request{}
	}
	l.byPath[path] = append(l.byPath[path], entry)
	return &loggedWriter{ResponseWriter: w, log: l, entry: entry}
}

// of returns the requests for path so far, in the order they came.
func (l *requestLog) of(path string) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	requests := []Request{}
	for _, entry := range l.byPath[path] {
		requests = append(requests, *entry)
	}
	return requests
}

// loggedWriter notes the status and the bytes of an answer.
type loggedWriter struct {
	http.ResponseWriter
	log   *requestLog
	entry *Request
	// noRange hides that http.ServeContent could serve ranges.
	noRange bool
}

// WriteHeader notes the status.
func (w *loggedWriter) WriteHeader(status int) {
	if w.noRange {
		w.Header().Del("Accept-Ranges")
	}
	w.log.mu.Lock()
	w.entry.Status = status
	w.log.mu.Unlock()
	w.ResponseWriter.WriteHeader(status)
}

// Write counts the bytes.
func (w *loggedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.log.mu.Lock()
	w.entry.Bytes += int64(n)
	w.log.mu.Unlock()
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *loggedWriter) Unwrap() http.ResponseWriter {
	return w.ResponseWriter
}
