package fault

import (
	"net/http"
	"sync"
	"time"
)

// Request is one request that the registry has seen.
type Request struct {
	Time   time.Time   `json:"time"`
	Method string      `json:"method"`
	Kind   string      `json:"kind"`
	Path   string      `json:"path"`
	Host   string      `json:"host"`
	Header http.Header `json:"header"`
	// Status that was answered; 0 while the answer has not begun.
	Status int `json:"status"`
	// Bytes of the body handed to the connection so far.
	Bytes int64 `json:"bytes"`
}

// requestLog keeps the requests for each repository.
type requestLog struct {
	mu           sync.Mutex
	byRepository map[string][]*Request
}

func (l *requestLog) begin(repository, kind string, r *http.Request) *Request {
	entry := &Request{Time: time.Now(), Method: r.Method, Kind: kind, Path: r.URL.Path, Host: r.Host, Header: r.Header.Clone()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byRepository == nil {
		l.byRepository = map[string][]*Request{}
	}
	l.byRepository[repository] = append(l.byRepository[repository], entry)
	return entry
}

func (l *requestLog) note(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

// of returns the requests for a repository so far, in the order they came.
func (l *requestLog) of(repository string) []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	requests := []Request{}
	for _, entry := range l.byRepository[repository] {
		requests = append(requests, *entry)
	}
	return requests
}
