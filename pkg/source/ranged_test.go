package source_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

func TestHeadCostsLittle(t *testing.T) {
	s := newSite(t, random(24*mib))
	image := open(t, s.url(), options(newClock()))
	_, err := io.ReadFull(reader{t.Context(), image}, make([]byte, 64<<10))
	require.NoError(t, err)
	_, err = image.Tail(t.Context(), 512)
	require.NoError(t, err)
	require.Equal(t, 2, s.count())
	require.EqualValues(t, 256<<10+512, s.bytes())
}

// reader makes an image an io.Reader.
type reader struct {
	ctx   context.Context
	image source.Image
}

func (r reader) Read(p []byte) (int, error) { return r.image.Read(r.ctx, p) }

func TestPiecesAreExact(t *testing.T) {
	for _, size := range []int{1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 4*mib - 1, 4 * mib, 4*mib + 1, 20*mib + 3} {
		s := newSite(t, random(size))
		image := open(t, s.url(), options(newClock()))
		require.True(t, image.Ranged())
		for range 2 {
			got, err := readAll(t.Context(), image, 100000)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got), size)
			require.NoError(t, image.Rewind(t.Context()))
		}
		require.LessOrEqual(t, s.bytes(), int64(2*size), "the head is asked for once")
	}
}

func TestConnectionsAreKept(t *testing.T) {
	for name, secure := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) {
			s := &site{body: random(25 * mib), etag: `"one"`}
			s.Server = httptest.NewUnstartedServer(s)
			var conns atomic.Int32
			s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					conns.Add(1)
				}
			}
			o := options(newClock())
			o.Connections = 3
			if secure {
				s.StartTLS()
				o.CAs = pool(s.Certificate())
			} else {
				s.Start()
			}
			defer s.Close()
			got, err := readAll(t.Context(), open(t, s.url(), o), mib)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			require.Equal(t, 14, s.count())
			require.LessOrEqual(t, conns.Load(), int32(3))
		})
	}
}

func TestReadAt(t *testing.T) {
	s := newSite(t, random(12*mib+5))
	o := options(newClock())
	o.Connections = 2
	var open1, most atomic.Int32
	s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if now := open1.Add(1); now > most.Load() {
			most.Store(now)
		}
		first, last := asked(r, len(s.body))
		if n%3 == 1 && last-first > 10 {
			open1.Add(-1)
			s.serve(&cutWriter{ResponseWriter: w, left: (last - first) / 2}, r)
			return true
		}
		w.Header().Set("ETag", s.etag)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(s.body)))
		w.Header().Set("Content-Length", strconv.Itoa(last-first+1))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(s.body[first:last])
		_ = http.NewResponseController(w).Flush()
		// The next request may come as soon as the last byte is on its way.
		open1.Add(-1)
		_, _ = w.Write(s.body[last : last+1])
		return true
	}
	image := open(t, s.url(), o)
	var wait sync.WaitGroup
	for seed := range uint64(8) {
		wait.Go(func() {
			dice := rand.New(rand.NewPCG(seed, 1))
			for range 12 {
				off := dice.Int64N(image.Size())
				p := make([]byte, min(dice.Int64N(mib), image.Size()-off))
				n, err := image.ReadAt(t.Context(), p, off)
				if err != nil || n != len(p) || !bytes.Equal(p, s.body[off:off+int64(n)]) {
					t.Errorf("%d bytes at %d: %d %v", len(p), off, n, err)
				}
			}
		})
	}
	got, err := readAll(t.Context(), image, mib)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.body, got))
	wait.Wait()
	require.LessOrEqual(t, most.Load(), int32(2))

	p := make([]byte, 100)
	n, err := image.ReadAt(t.Context(), p, image.Size()-10)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, s.body[len(s.body)-10:], p[:n])
	_, err = image.ReadAt(t.Context(), p, image.Size()+1)
	require.ErrorIs(t, err, io.EOF)
	_, err = image.ReadAt(t.Context(), p, -1)
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = image.ReadAt(ctx, p, 5*mib)
	require.ErrorIs(t, err, context.Canceled)
}

// TestUnprovedRanges is faults N7 and N8 at the opening request.
func TestUnprovedRanges(t *testing.T) {
	send := func(w http.ResponseWriter, span string, p []byte) {
		w.Header().Set("Content-Range", span)
		w.Header().Set("Content-Length", strconv.Itoa(len(p)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(p)
	}
	const k, size = 256 << 10, 3 * mib
	for name, c := range map[string]struct {
		answer   func(w http.ResponseWriter, s *site)
		requests int
	}{
		"whole image": {func(w http.ResponseWriter, s *site) {
			w.Header().Set("Content-Length", strconv.Itoa(len(s.body)))
			w.Header().Set("Accept-Ranges", "bytes")
			_, _ = w.Write(s.body)
		}, 1},
		"wrong start":   {func(w http.ResponseWriter, s *site) { send(w, "bytes 1-262143/3145728", s.body[1:k]) }, 2},
		"too much":      {func(w http.ResponseWriter, s *site) { send(w, "bytes 0-262144/3145728", s.body[:k+1]) }, 2},
		"unknown total": {func(w http.ResponseWriter, s *site) { send(w, "bytes 0-262143/*", s.body[:k]) }, 2},
		"no range":      {func(w http.ResponseWriter, s *site) { send(w, "", s.body[:k]) }, 2},
		"wrong length":  {func(w http.ResponseWriter, s *site) { send(w, "bytes 0-262143/3145728", s.body[:k-1]) }, 2},
		"no length": {func(w http.ResponseWriter, s *site) {
			w.Header().Set("Content-Range", "bytes 0-262143/3145728")
			w.WriteHeader(http.StatusPartialContent)
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(s.body[:k])
		}, 2},
		"weak": {func(w http.ResponseWriter, s *site) {
			w.Header().Set("ETag", `W/"one"`)
			send(w, "bytes 0-262143/3145728", s.body[:k])
		}, 2},
		"no etag": {func(w http.ResponseWriter, s *site) {
			w.Header().Del("ETag")
			send(w, "bytes 0-262143/3145728", s.body[:k])
		}, 2},
		"multipart": {func(w http.ResponseWriter, s *site) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			send(w, "bytes 0-262143/3145728", s.body[:k])
		}, 2},
		"416": {func(w http.ResponseWriter, _ *site) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(size))
			s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("ETag", s.etag)
				if n == 0 {
					c.answer(w, s)
				}
				return n == 0
			}
			image := open(t, s.url(), options(newClock()))
			require.False(t, image.Ranged())
			_, err := image.ReadAt(t.Context(), make([]byte, 1), 0)
			require.Error(t, err)
			_, err = image.Tail(t.Context(), 512)
			require.Error(t, err)
			got, err := readAll(t.Context(), image, mib)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			require.Equal(t, c.requests, s.count())
			require.Less(t, s.bytes(), int64(size+k+2))
		})
	}
	t.Run("empty", func(t *testing.T) {
		s := newSite(t, nil)
		s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Range", "bytes */0")
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}
		require.Equal(t, source.EmptySource, failure(t, s.url(), options(newClock())).Reason())
		require.Equal(t, 1, s.count())
	})
}

// TestPieceThatLies has one piece in the middle answered wrongly: faults N5 to N8.
func TestPieceThatLies(t *testing.T) {
	const size = 12 * mib
	for name, answer := range map[string]func(w http.ResponseWriter, s *site, first, last int){
		"whole image": func(w http.ResponseWriter, s *site, _, _ int) { w.Header().Set("ETag", s.etag); _, _ = w.Write(s.body) },
		"whole image, other etag": func(w http.ResponseWriter, s *site, _, _ int) {
			w.Header().Set("ETag", `"two"`)
			_, _ = w.Write(s.body)
		},
		"412": func(w http.ResponseWriter, _ *site, _, _ int) { w.WriteHeader(http.StatusPreconditionFailed) },
		"416": func(w http.ResponseWriter, _ *site, _, _ int) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
		"other etag": func(w http.ResponseWriter, s *site, first, last int) {
			w.Header().Set("ETag", `"two"`)
			part(w, s, first, last, size)
		},
		"weak etag": func(w http.ResponseWriter, s *site, first, last int) {
			w.Header().Set("ETag", `W/"one"`)
			part(w, s, first, last, size)
		},
		"wrong start": func(w http.ResponseWriter, s *site, first, last int) { part(w, s, first-1, last-1, size) },
		"wrong end":   func(w http.ResponseWriter, s *site, first, last int) { part(w, s, first, last+1, size) },
		"wrong total": func(w http.ResponseWriter, s *site, first, last int) { part(w, s, first, last, size-1) },
		"no total": func(w http.ResponseWriter, s *site, first, last int) {
			w.Header().Set("ETag", s.etag)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", first, last))
			w.WriteHeader(http.StatusPartialContent)
		},
		"no etag": func(w http.ResponseWriter, s *site, first, last int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(s.body[first : last+1])
		},
		"multipart": func(w http.ResponseWriter, s *site, first, last int) {
			w.Header().Set("Content-Type", "multipart/byteranges; boundary=x")
			part(w, s, first, last, size)
		},
		"other length": func(w http.ResponseWriter, s *site, first, last int) {
			w.Header().Set("ETag", s.etag)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(s.body[first : first+5])
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(size))
			s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				first, last := asked(r, size)
				lies := first <= 9*mib && 9*mib <= last
				if lies {
					answer(w, s, first, last)
				}
				return lies
			}
			clock := newClock()
			image := open(t, s.url(), options(clock))
			require.True(t, image.Ranged())
			for what, read := range map[string]func() ([]byte, error){
				"Read": func() ([]byte, error) { return readAll(t.Context(), image, 64<<10) },
				"ReadAt": func() ([]byte, error) {
					p := make([]byte, 2*mib)
					n, err := image.ReadAt(t.Context(), p, 8*mib)
					require.Zero(t, n, "a lie is no data")
					return nil, err
				},
			} {
				got, err := read()
				var e *source.Error
				require.ErrorAs(t, err, &e, what)
				require.True(t, e.StartOver(), what)
				if name != "whole image" {
					require.Equal(t, source.SourceUnstable, e.Reason(), what)
				}
				require.True(t, bytes.HasPrefix(s.body, got), "never bytes that do not belong together")
			}
			if name != "whole image" {
				require.Empty(t, clock.waits, "asking again does not help")
			}
		})
	}
}

// TestReplacedInMidRun is fault N6.
func TestReplacedInMidRun(t *testing.T) {
	for way, spoil := range ways() {
		for _, at := range []int{2, 3, 5} {
			t.Run(fmt.Sprintf("%s, request %d", way, at), func(t *testing.T) {
				s := newSite(t, random(14*mib))
				before := s.body
				after := append(bytes.Clone(before[1:]), 0)
				s.breakAt([]int{3 * mib, 5 * mib, 7 * mib, 10 * mib, 13 * mib}, true, spoil)
				cut := s.spoil
				s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
					if n == at {
						s.mu.Lock()
						s.body, s.etag = after, `"two"`
						s.mu.Unlock()
					}
					return cut(n, w, r)
				}
				image := open(t, s.url(), options(newClock()))
				got, err := readAll(t.Context(), image, 64<<10)
				var e *source.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, source.SourceUnstable, e.Reason())
				require.True(t, e.StartOver())
				require.True(t, bytes.HasPrefix(before, got), "never bytes of two images")
			})
		}
	}
}

func TestRewindForward(t *testing.T) {
	forward := func(t *testing.T) *site {
		s := newSite(t, random(3*mib))
		s.spoil = func(_ int, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
		return s
	}
	for name, change := range map[string]func(s *site){
		"same":        func(*site) {},
		"other etag":  func(s *site) { s.etag = `"two"` },
		"other time":  func(s *site) { s.modified = s.modified.Add(time.Hour) },
		"other bytes": func(s *site) { s.body = s.body[1:] },
	} {
		t.Run(name, func(t *testing.T) {
			s := forward(t)
			body := s.body
			image := open(t, s.url(), options(newClock()))
			require.False(t, image.Ranged())
			_, err := io.ReadFull(reader{t.Context(), image}, make([]byte, 2*mib))
			require.NoError(t, err)
			s.mu.Lock()
			change(s)
			s.mu.Unlock()
			err = image.Rewind(t.Context())
			if name == "same" {
				require.NoError(t, err)
				got, err := readAll(t.Context(), image, mib)
				require.NoError(t, err)
				require.True(t, bytes.Equal(body, got))
				return
			}
			var e *source.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, source.SourceUnstable, e.Reason())
		})
	}
	t.Run("nothing to tell it by", func(t *testing.T) {
		body := random(mib)
		s := newSite(t, nil)
		s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(body[:len(body)-n/2])
			return true
		}
		image := open(t, s.url(), options(newClock()))
		for range 2 {
			got, err := readAll(t.Context(), image, mib)
			require.NoError(t, err)
			require.True(t, bytes.Equal(body, got))
			require.NoError(t, image.Rewind(t.Context()))
		}
		_, err := readAll(t.Context(), image, mib)
		var e *source.Error
		require.ErrorAs(t, err, &e, "the length of the first pass is known")
		require.Equal(t, source.SourceUnstable, e.Reason())
	})
}

// TestOneConnectionIsEnough has servers that serve no more than a few at once.
func TestOneConnectionIsEnough(t *testing.T) {
	const size = 20 * mib
	for name, refuse := range map[string]func(w http.ResponseWriter){
		"503": func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
		"429": func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) },
		"reset": func(w http.ResponseWriter) {
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		},
	} {
		for allowed := range int32(3) {
			t.Run(fmt.Sprintf("%s, %d allowed", name, allowed+1), func(t *testing.T) {
				s := newSite(t, random(size))
				var busy, refused atomic.Int32
				s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
					if busy.Add(1) > allowed+1 {
						busy.Add(-1)
						refused.Add(1)
						refuse(w)
						return true
					}
					first, last := asked(r, size)
					w.Header().Set("ETag", s.etag)
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
					w.Header().Set("Content-Length", strconv.Itoa(last-first+1))
					w.WriteHeader(http.StatusPartialContent)
					_, _ = w.Write(s.body[first:last])
					_ = http.NewResponseController(w).Flush()
					busy.Add(-1)
					_, _ = w.Write(s.body[last : last+1])
					return true
				}
				got, err := readAll(t.Context(), open(t, s.url(), options(newClock())), mib)
				require.NoError(t, err)
				require.True(t, bytes.Equal(s.body, got))
				require.Less(t, refused.Load(), int32(12), "it learns")
			})
		}
	}
	t.Run("the second waits for ever", func(t *testing.T) {
		s := &site{body: random(size), etag: `"one"`}
		s.Server = httptest.NewUnstartedServer(s)
		s.Listener = &oneAtATime{Listener: s.Listener, free: make(chan struct{}, 1)}
		s.Start()
		defer s.Close()
		o := options(newClock())
		// Nothing but time tells a connection that is never served from one that will be.
		o.AfterFunc, o.HeaderTimeout = nil, 2*time.Second
		got, err := readAll(t.Context(), open(t, s.url(), o), mib)
		require.NoError(t, err)
		require.True(t, bytes.Equal(s.body, got))
	})
}

// oneAtATime accepts a connection when the one before is closed.
type oneAtATime struct {
	net.Listener
	free chan struct{}
}

func (l *oneAtATime) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.free <- struct{}{}
	return &onlyConn{Conn: conn, release: sync.OnceFunc(func() { <-l.free })}, nil
}

type onlyConn struct {
	net.Conn
	release func()
}

func (c *onlyConn) Close() error {
	c.release()
	return c.Conn.Close()
}

// TestOnePauseForAll is fault N3 with several connections: one is told to wait, all do.
func TestOnePauseForAll(t *testing.T) {
	s := newSite(t, random(24*mib))
	clock := &heldClock{fakeClock: newClock(), asleep: make(chan struct{}), release: make(chan struct{})}
	start := clock.Now()
	var early atomic.Int32
	arrived, served := make(chan struct{}, 100), make(chan struct{}, 100)
	s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if clock.Now().Before(start.Add(7 * time.Second)) {
			early.Add(1)
		}
		if n == 1 {
			for range 3 {
				<-arrived
			}
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		if n > 1 {
			arrived <- struct{}{}
			<-clock.asleep
		}
		s.serve(w, r)
		served <- struct{}{}
		return true
	}
	o := options(clock.fakeClock)
	o.Clock = clock
	image := open(t, s.url(), o)
	var reading sync.WaitGroup
	reading.Go(func() {
		got, err := readAll(t.Context(), image, mib)
		if err != nil || !bytes.Equal(s.body, got) {
			t.Errorf("%d bytes: %v", len(got), err)
		}
	})
	<-clock.asleep
	// The head and three pieces are served before the pause is over, and there is room for one more.
	for range 4 {
		<-served
	}
	close(clock.release)
	reading.Wait()
	require.EqualValues(t, 5, early.Load(), "nobody asks before the time")
	require.Equal(t, []time.Duration{7 * time.Second}, clock.waits, "one answer, one pause")
}

// heldClock sleeps until it is released.
type heldClock struct {
	*fakeClock
	once            sync.Once
	asleep, release chan struct{}
}

func (c *heldClock) Sleep(ctx context.Context, d time.Duration) error {
	c.once.Do(func() { close(c.asleep) })
	<-c.release
	return c.fakeClock.Sleep(ctx, d)
}

// TestFaultsTogetherAreOne is fault N2 in mid-run: all connections fail, again and again.
func TestFaultsTogetherAreOne(t *testing.T) {
	for name, status := range map[string]int{"5xx": 503, "for ever": 500} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(24*mib))
			clock := newClock()
			s.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
				fails := n > 0 && (status == 500 || clock.total() < 60*time.Second)
				if fails {
					w.WriteHeader(status)
				}
				return fails
			}
			got, err := readAll(t.Context(), open(t, s.url(), options(clock)), mib)
			if name == "5xx" {
				require.NoError(t, err)
				require.True(t, bytes.Equal(s.body, got))
				require.Equal(t, []time.Duration{1, 2, 4, 8, 16, 32}, inSeconds(clock.waits))
				return
			}
			var e *source.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, source.ServerError, e.Reason())
			require.Equal(t, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60}, inSeconds(clock.waits))
		})
	}
}

// TestCancelledInMidRun leaves nothing behind: TestMain looks.
func TestCancelledInMidRun(t *testing.T) {
	for way, spoil := range ways() {
		t.Run(way, func(t *testing.T) {
			s := newSite(t, random(24*mib))
			silent, once := make(chan struct{}), sync.Once{}
			s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				spoil(r)
				first, last := asked(r, len(s.body))
				if way == "ranged" && first == 0 {
					return false
				}
				w.Header().Set("ETag", s.etag)
				w.Header().Set("Content-Length", strconv.Itoa(last-first+1))
				if way == "ranged" {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(s.body)))
					w.WriteHeader(http.StatusPartialContent)
				}
				_, _ = w.Write(s.body[first : first+1000])
				_ = http.NewResponseController(w).Flush()
				once.Do(func() { close(silent) })
				<-r.Context().Done()
				return true
			}
			image, err := source.Open(t.Context(), s.url(), options(newClock()))
			require.NoError(t, err)
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-silent
				cancel(errors.New("enough"))
			}()
			_, err = readAll(ctx, image, 64<<10)
			require.ErrorContains(t, err, "enough")
			require.NoError(t, image.Close())
		})
	}
}

// TestSlowServer is fault N10: a byte now and then is as bad as none.
func TestSlowServer(t *testing.T) {
	// One byte a second, as long as somebody waits for it.
	trickle := func(clock *fakeClock, w http.ResponseWriter, r *http.Request, p []byte, waits int) {
		controller := http.NewResponseController(w)
		for _, b := range p {
			var err error
			if waits, err = clock.timers.next(r.Context(), stallTimeout, waits); err != nil {
				return
			}
			clock.advance(time.Second)
			if _, err := w.Write([]byte{b}); err != nil || controller.Flush() != nil {
				return
			}
		}
	}
	for way, spoil := range ways() {
		t.Run(way, func(t *testing.T) {
			s := newSite(t, random(5*mib))
			clock := newClock()
			var slow atomic.Int32
			s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				spoil(r)
				first, last := asked(r, len(s.body))
				if last < 4*mib || slow.Add(1) > 1 {
					return false
				}
				waits := clock.timers.started(stallTimeout)
				w.Header().Set("ETag", s.etag)
				w.Header().Set("Content-Length", strconv.Itoa(last-first+1))
				if way == "ranged" {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(s.body)))
					w.WriteHeader(http.StatusPartialContent)
				}
				_ = http.NewResponseController(w).Flush()
				trickle(clock, w, r, s.body[first:last+1], waits)
				return true
			}
			o := options(clock)
			// One answer at a time: the time that passes is the time of the slow one.
			o.Connections = 1
			var told []string
			o.Notice = func(message string) { told = append(told, message) }
			got, err := readAll(t.Context(), open(t, s.url(), o), 64<<10)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			require.Len(t, told, 1)
			require.Contains(t, told[0], "less than 4096 bytes a second came for 1m0s")
		})
	}
	t.Run("headers that never end", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		clock := newClock()
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				serving.Go(func() {
					defer func() { _ = conn.Close() }()
					request := bufio.NewReader(conn)
					for line := ""; line != "\r\n"; {
						if line, err = request.ReadString('\n'); err != nil {
							return
						}
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-A: b\r\n")
					clock.timers.end(headerTimeout, nil)
					_, _ = io.Copy(io.Discard, request)
				})
			}
		})
		e := failure(t, "http://"+listener.Addr().String()+"/?sig="+canary, options(clock))
		require.Equal(t, source.ConnectionFailed, e.Reason())
		require.ErrorContains(t, e, "no answer came in time")
		require.NoError(t, listener.Close())
		serving.Wait()
	})
}
