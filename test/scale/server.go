package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// answerAfter is how long the servers take over each answer: about as long as one that is
	// not far away.
	answerAfter = 10 * time.Millisecond
	// lastModified is older than any run of the benchmark.
	lastModified = "Thu, 01 Jan 2026 00:00:00 GMT"
	imageLength  = "1073741824"
	// perNetwork is how many hosts have an address 127.0.n.x.
	perNetwork = 250
)

// request is one request as the server saw it.
type request struct {
	host, path, method string
	status             int
	// at is when it came, done when it was answered.
	at, done time.Time
}

// hosts are web servers on addresses of the loopback, each of them a host of its own. They have
// every file; its ETag never changes.
type hosts struct {
	// addresses are IP addresses and ports.
	addresses []string
	server    *http.Server
	serving   sync.WaitGroup

	mutex    sync.Mutex
	requests []request
	inFlight map[string]int
	peaks    []peak
}

// peak is how many requests a host had to answer at once, at a time when that grew.
type peak struct {
	at time.Time
	n  int
}

// startHosts serves n hosts until stop is called.
func startHosts(ctx context.Context, n int) (*hosts, error) {
	h := &hosts{inFlight: map[string]int{}}
	h.server = &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	for i := range n {
		ip := fmt.Sprintf("127.0.%d.%d", 1+i/perNetwork, 1+i%perNetwork)
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(ip, "0"))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("serving host %d of %d: %w", i+1, n, err), h.stop())
		}
		h.addresses = append(h.addresses, listener.Addr().String())
		h.serving.Go(func() { _ = h.server.Serve(listener) }) // it ends when stop is called
	}
	return h, nil
}

func (h *hosts) stop() error {
	err := h.server.Close()
	h.serving.Wait()
	return err
}

// url of the i-th image. Neighbours are on different hosts.
func (h *hosts) url(i int) string {
	return fmt.Sprintf("http://%s/%s", h.addresses[i%len(h.addresses)], fileName(i))
}

func fileName(i int) string { return fmt.Sprintf("disk-%05d.qcow2", i) }

// ServeHTTP answers HEAD, and GET with headers alone: nobody should ask for the bytes.
func (h *hosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := h.begin(r.Host)
	status := http.StatusOK
	defer func() {
		h.end(request{host: r.Host, path: r.URL.Path, method: r.Method, status: status, at: begun, done: time.Now()})
	}()
	wait := time.NewTimer(answerAfter)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-r.Context().Done():
		status = 0
		return
	}
	etag := `"` + strings.TrimPrefix(r.URL.Path, "/") + `"`
	w.Header().Set("ETag", etag)
	w.Header().Set("Last-Modified", lastModified)
	w.Header().Set("Accept-Ranges", "bytes")
	if r.Header.Get("If-None-Match") == etag {
		status = http.StatusNotModified
	} else {
		w.Header().Set("Content-Length", imageLength)
	}
	w.WriteHeader(status)
}

// begin counts a request until end, and returns when it began.
func (h *hosts) begin(host string) time.Time {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	now := time.Now()
	h.inFlight[host]++
	h.peaks = append(h.peaks, peak{now, h.inFlight[host]})
	return now
}

func (h *hosts) end(r request) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.inFlight[r.host]--
	h.requests = append(h.requests, r)
}

// answered is how many requests have been answered in all.
func (h *hosts) answered() int {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return len(h.requests)
}

// between returns the requests that came in [from, to), and the most that one host had at once.
func (h *hosts) between(from, to time.Time) (found []request, most int) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, r := range h.requests {
		if !r.at.Before(from) && r.at.Before(to) {
			found = append(found, r)
		}
	}
	for _, p := range h.peaks {
		if !p.at.Before(from) && p.at.Before(to) {
			most = max(most, p.n)
		}
	}
	return found, most
}
