package source_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// lockedBuffer may be written from many goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// TestNobodyWritesToOurLog has servers that send more than was asked for. net/http writes
// that to the log of the program, where a secret that the server was sent could show up.
func TestNobodyWritesToOurLog(t *testing.T) {
	const unasked = "HTTP/1.1 200 OK\r\nX-Echo: " + canary + "\r\n\r\n"
	const size = 9 * mib
	head := func(first, last int) string {
		return fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nETag: \"one\"\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n", first, last, size, last-first+1)
	}
	for name, answer := range map[string]func(conn net.Conn, body []byte, first, last int, idle <-chan struct{}){
		"behind a part": func(conn net.Conn, body []byte, first, last int, _ <-chan struct{}) {
			_, _ = conn.Write(append([]byte(head(first, last)), append(bytes.Clone(body[first:last+1]), unasked...)...))
		},
		"while idle": func(conn net.Conn, body []byte, first, last int, idle <-chan struct{}) {
			_, _ = conn.Write(append([]byte(head(first, last)), body[first:last+1]...))
			if last == size-1 {
				<-idle
				_, _ = io.WriteString(conn, unasked)
			}
		},
		"behind an empty answer": func(conn net.Conn, body []byte, first, last int, _ <-chan struct{}) {
			if first == 4*mib {
				_, _ = io.WriteString(conn, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"+unasked)
				return
			}
			_, _ = conn.Write(append([]byte(head(first, last)), body[first:last+1]...))
		},
		"announced": func(conn net.Conn, body []byte, first, last int, _ <-chan struct{}) {
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
			_, _ = conn.Write(append([]byte(head(first, last)), append(bytes.Clone(body[first:last+1]), unasked...)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out lockedBuffer
			before := log.Writer()
			log.SetOutput(&out)
			defer log.SetOutput(before)
			s := newSite(t, random(size))
			var busy atomic.Bool
			var serving sync.WaitGroup
			idle := make(chan struct{})
			s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				first, last := asked(r, size)
				if first == 4*mib && name == "behind an empty answer" && busy.Swap(true) {
					return false
				}
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					return false
				}
				serving.Add(1)
				defer serving.Done()
				defer func() { _ = conn.Close() }()
				answer(conn, s.body, first, last, idle)
				spoilt := last == size-1
				if name == "behind an empty answer" {
					spoilt = first == 4*mib
				}
				if spoilt {
					// net/http writes to the log before it hangs up.
					_, _ = io.Copy(io.Discard, conn)
				}
				return true
			}
			o := options(newClock())
			// The last piece is the last request: its connection stays idle.
			o.Connections = 1
			got, err := readAll(t.Context(), open(t, s.url(), o), mib)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			close(idle)
			serving.Wait()
			require.Empty(t, out.String())
		})
	}
	t.Run("before the request", func(t *testing.T) {
		var out lockedBuffer
		before := log.Writer()
		log.SetOutput(&out)
		defer log.SetOutput(before)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { require.NoError(t, listener.Close()) }()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(conn, "SSH-2.0-"+canary+"\r\n")
				_ = conn.Close()
			}
		}()
		require.Equal(t, source.ConnectionFailed, failure(t, "http://"+listener.Addr().String()+"/disk", options(newClock())).Reason())
		require.Empty(t, out.String())
	})
}

// TestRangesThroughAProxy goes through a tunnel, whose bytes quietConn must not touch.
func TestRangesThroughAProxy(t *testing.T) {
	end := newSite(t, random(9*mib))
	secure := httptest.NewTLSServer(end)
	defer secure.Close()
	var tunnels sync.WaitGroup
	defer tunnels.Wait()
	p := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodConnect {
			return false
		}
		to, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", secure.Listener.Addr().String())
		if err != nil {
			return false
		}
		w.WriteHeader(http.StatusOK)
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return false
		}
		tunnels.Go(func() { _, _ = io.Copy(to, from); _ = to.Close() })
		tunnels.Go(func() { _, _ = io.Copy(from, to); _ = from.Close() })
		return true
	})
	t.Setenv("HTTPS_PROXY", p.URL)
	o := options(newClock())
	o.CAs = pool(secure.Certificate())
	image := open(t, "https://example.com/disk", o)
	require.True(t, image.Ranged())
	got, err := readAll(t.Context(), image, mib)
	require.NoError(t, err)
	require.True(t, bytes.Equal(end.body, got))
	require.GreaterOrEqual(t, p.count(), 4, "a tunnel is not kept")
}
