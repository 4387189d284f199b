package fault

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Front keeps the faults of each repository and the requests for it.
//
//	PUT  /control/faults/REPOSITORY    sets the faults, a JSON list of Fault; what is held goes on
//	GET  /control/requests/REPOSITORY  the requests so far, as JSON
type Front struct {
	log requestLog

	mu     sync.Mutex
	faults map[string]*set
}

// set is the faults of a repository until they are replaced.
type set struct {
	all      []*armed
	replaced chan struct{}
}

// New makes a Front without faults.
func New() *Front { return &Front{faults: map[string]*set{}} }

// Control adds the paths above.
func (f *Front) Control(mux *http.ServeMux) {
	mux.HandleFunc("PUT /control/faults/{repository...}", f.put)
	mux.HandleFunc("GET /control/requests/{repository...}", f.requests)
}

func (f *Front) put(w http.ResponseWriter, r *http.Request) {
	var faults []Fault
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&faults); err != nil {
		http.Error(w, "reading faults: "+err.Error(), http.StatusBadRequest)
		return
	}
	f.Set(r.PathValue("repository"), faults)
	w.WriteHeader(http.StatusNoContent)
}

// Set replaces the faults of a repository.
func (f *Front) Set(repository string, faults []Fault) {
	s := &set{replaced: make(chan struct{})}
	for _, fault := range faults {
		s.all = append(s.all, &armed{Fault: fault, replaced: s.replaced})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.faults[repository]; old != nil {
		close(old.replaced)
	}
	f.faults[repository] = s
}

func (f *Front) requests(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// A caller that is gone asks again.
	_ = json.NewEncoder(w).Encode(f.Requests(r.PathValue("repository")))
}

// Requests are what was asked for of a repository so far.
func (f *Front) Requests(repository string) []Request { return f.log.of(repository) }

// Note keeps a request under a name of the caller's.
func (f *Front) Note(name string, r *http.Request) { f.log.begin(name, Blob, r) }

// TokenLife is how long a token for a repository lives.
func (f *Front) TokenLife(repository string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.faults[repository]; s != nil {
		for _, one := range s.all {
			if one.TokenSeconds > 0 {
				return time.Duration(one.TokenSeconds) * time.Second
			}
		}
	}
	return 10 * time.Minute
}

// Around answers through next, with the faults.
func (f *Front) Around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		repository, kind, digest := Asked(r)
		entry := f.log.begin(repository, kind, r)
		out := &writer{ResponseWriter: w, log: &f.log, entry: entry, done: r.Context().Done(), cut: -1}
		pad := 0
		for _, one := range f.turns(r.Method, repository, kind, digest) {
			if one.Status != 0 {
				refuse(out, one.Fault)
				return
			}
			pad = max(pad, one.PadTo)
			out.add(one)
		}
		if pad > 0 {
			padded(out, r, next, pad)
			return
		}
		next.ServeHTTP(out, r)
	})
}

// turns are the faults of a request. Where they are counted, HEAD does not count: clients ask it as they like.
func (f *Front) turns(method, repository, kind, digest string) []*armed {
	f.mu.Lock()
	defer f.mu.Unlock()
	var turns []*armed
	if s := f.faults[repository]; s != nil {
		for _, one := range s.all {
			if counted := one.Skip > 0 || one.Times > 0; counted && method == http.MethodHead {
				continue
			}
			if one.turn(kind, digest) {
				turns = append(turns, one)
			}
		}
	}
	return turns
}

// refuse answers as the distribution specification says errors look like.
func refuse(w http.ResponseWriter, fault Fault) {
	code := map[int]string{
		http.StatusForbidden: "DENIED", http.StatusNotFound: "NAME_UNKNOWN", http.StatusTooManyRequests: "TOOMANYREQUESTS",
	}[fault.Status]
	if code == "" {
		code = "UNKNOWN"
	}
	if fault.RetryAfter != "" {
		w.Header().Set("Retry-After", fault.RetryAfter)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(fault.Status)
	_, _ = w.Write([]byte(`{"errors":[{"code":"` + code + `","message":"on purpose"}]}` + "\n"))
}

// padded answers with white space behind a manifest, which is still JSON.
func padded(w http.ResponseWriter, r *http.Request, next http.Handler, size int) {
	kept := &buffer{header: http.Header{}, status: http.StatusOK}
	next.ServeHTTP(kept, r)
	for key, values := range kept.header {
		w.Header()[key] = values
	}
	for len(kept.body) < size {
		kept.body = append(kept.body, ' ')
	}
	// The digest of the registry is that of other bytes now.
	w.Header().Del("Docker-Content-Digest")
	w.Header().Del("ETag")
	w.Header().Set("Content-Length", strconv.Itoa(len(kept.body)))
	w.WriteHeader(kept.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(kept.body)
	}
}

// buffer keeps an answer.
type buffer struct {
	header http.Header
	status int
	body   []byte
}

func (b *buffer) Header() http.Header    { return b.header }
func (b *buffer) WriteHeader(status int) { b.status = status }
func (b *buffer) Write(p []byte) (int, error) {
	b.body = append(b.body, p...)
	return len(p), nil
}
