package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

// door lets requests into a site with the tokens that are good now.
type door struct {
	mu     sync.Mutex
	good   string
	logins []http.Header
}

// guarded makes s ask for a token that the door gives out.
func guarded(s *site) *door {
	d := &door{good: "none"}
	s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool { return d.refuses(w, r) }
	return d
}

func (d *door) refuses(w http.ResponseWriter, r *http.Request) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Header.Get("Authorization") == d.good {
		return false
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="door"`)
	w.WriteHeader(http.StatusUnauthorized)
	return true
}

// expire makes the tokens given out until now worthless.
func (d *door) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.good = "none"
}

// login gives out a new token, as Options.Login.
func (d *door) login(_ context.Context, refused http.Header) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logins = append(d.logins, refused)
	d.good = fmt.Sprintf("Bearer %s-%d", canary, len(d.logins))
	return d.good, nil
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.logins)
}

func TestLogin(t *testing.T) {
	s := newSite(t, random(12*mib))
	d := guarded(s)
	o := options(newClock())
	o.Login = d.login
	got, err := readAll(t.Context(), open(t, s.url(), o), mib)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.body, got))
	require.Equal(t, 1, d.count())
	require.Equal(t, `Bearer realm="door"`, d.logins[0].Get("WWW-Authenticate"))
}

// TestTokenExpiresInMidRun breaks every connection at a byte and lets the token expire with it:
// the rest comes after one login more, from that byte on.
func TestTokenExpiresInMidRun(t *testing.T) {
	const size, half = 4 * mib, 3*mib - 7
	for name, c := range map[string]struct {
		etag      string
		way       func(r *http.Request)
		addressed bool
	}{
		"ranged":             {etag: `"one"`, way: func(*http.Request) {}},
		"ranged, addressed":  {way: func(*http.Request) {}, addressed: true},
		"forward":            {etag: `"one"`, way: withoutFirstRange},
		"forward, addressed": {way: withoutFirstRange, addressed: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, random(size))
			s.etag = c.etag
			d := guarded(s)
			refuses := s.spoil
			var broken atomic.Bool
			s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
				if refuses(n, w, r) {
					return true
				}
				c.way(r)
				first, last := asked(r, size)
				if first > half || last < half || !broken.CompareAndSwap(false, true) {
					s.serve(w, r)
					return true
				}
				d.expire()
				s.serve(&cutWriter{ResponseWriter: w, left: half - first}, r)
				return true
			}
			clock := newClock()
			o := options(clock)
			o.Login, o.Addressed, o.Connections = d.login, c.addressed, 1
			image := open(t, s.url(), o)
			got, err := readAll(t.Context(), image, 64<<10)
			require.NoError(t, err)
			require.True(t, bytes.Equal(s.body, got))
			require.Equal(t, 2, d.count(), "one login for the first 401, one for the second")
			require.Equal(t, int64(size), image.Fetched(), "no byte comes twice")
			require.Len(t, clock.waits, 1, "the cut waits, the 401 does not")
		})
	}
}

// withoutFirstRange makes a server answer the opening request with the whole image.
func withoutFirstRange(r *http.Request) {
	if first, _ := asked(r, 4*mib); first == 0 {
		r.Header.Del("Range")
	}
}

// TestConnectionsLogInTogether lets the token expire between pieces, with four connections.
func TestConnectionsLogInTogether(t *testing.T) {
	const size = 24 * mib
	s := newSite(t, random(size))
	d := guarded(s)
	refuses := s.spoil
	var pieces atomic.Int32
	s.spoil = func(n int, w http.ResponseWriter, r *http.Request) bool {
		if refuses(n, w, r) {
			return true
		}
		if pieces.Add(1) == 6 {
			d.expire()
		}
		return false
	}
	o := options(newClock())
	o.Login = d.login
	got, err := readAll(t.Context(), open(t, s.url(), o), mib)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.body, got))
	require.Equal(t, 2, d.count())
}

func TestLoginThatDoesNotHelp(t *testing.T) {
	failed := &source.Error{}
	for name, c := range map[string]struct {
		status   int
		login    func(calls int) (string, error)
		want     string
		requests int
	}{
		"401 again":    {401, func(int) (string, error) { return "Bearer " + canary, nil }, source.AuthenticationFailed, 2},
		"403":          {403, func(int) (string, error) { return "Bearer " + canary, nil }, source.AuthenticationFailed, 1},
		"login fails":  {401, func(int) (string, error) { return "", failed }, "", 1},
		"login breaks": {401, func(int) (string, error) { return "", errors.New("no token") }, "no source.Error", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, []byte("body"))
			s.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(c.status)
				return true
			}
			calls := 0
			clock := newClock()
			o := options(clock)
			o.Login = func(context.Context, http.Header) (string, error) {
				calls++
				return c.login(calls)
			}
			_, err := source.Open(t.Context(), s.url(), o)
			require.Error(t, err)
			require.NotContains(t, err.Error(), canary)
			var e *source.Error
			if errors.As(err, &e) {
				require.Equal(t, c.want, e.Reason())
			} else {
				require.EqualError(t, err, "no token")
			}
			require.Equal(t, c.requests, s.count())
			require.Empty(t, clock.waits)
		})
	}
}

// TestLoginAtABusyServer fails with an error of source, which is tried again.
func TestLoginAtABusyServer(t *testing.T) {
	busy := newSite(t, []byte("token"))
	busy.spoil = func(n int, w http.ResponseWriter, _ *http.Request) bool {
		if n < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n < 2
	}
	s := newSite(t, random(mib))
	d := guarded(s)
	clock := newClock()
	o := options(clock)
	o.Login = func(ctx context.Context, refused http.Header) (string, error) {
		once := options(clock)
		once.OpenTries = 1
		image, err := source.Open(ctx, busy.url(), once)
		if err != nil {
			return "", err
		}
		if err := image.Close(); err != nil {
			return "", err
		}
		return d.login(ctx, refused)
	}
	got, err := readAll(t.Context(), open(t, s.url(), o), mib)
	require.NoError(t, err)
	require.True(t, bytes.Equal(s.body, got))
	require.Equal(t, 3, busy.count(), "each try of the source asks once")
	require.Equal(t, []time.Duration{1, 2}, inSeconds(clock.waits))
}

// TestLoginStaysWithItsHost redirects to a server that asks for a login too.
func TestLoginStaysWithItsHost(t *testing.T) {
	for name, answers := range map[string]int{"takes all": 200, "asks for a login": 401} {
		t.Run(name, func(t *testing.T) {
			store := newSite(t, random(8*mib))
			store.spoil = func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				if answers != 200 {
					w.WriteHeader(answers)
				}
				return answers != 200
			}
			s := newSite(t, nil)
			d := &door{good: "none"}
			s.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				if !d.refuses(w, r) {
					http.Redirect(w, r, store.URL+"/blob", http.StatusTemporaryRedirect)
				}
				return true
			}
			o := options(newClock())
			o.Login, o.Addressed = d.login, true
			image, err := source.Open(t.Context(), s.url(), o)
			if answers == 200 {
				require.NoError(t, err)
				_, err = readAll(t.Context(), image, mib)
				require.NoError(t, err)
				require.NoError(t, image.Close())
			} else {
				var e *source.Error
				require.ErrorAs(t, err, &e)
				require.Equal(t, source.AuthenticationFailed, e.Reason())
			}
			require.Equal(t, 1, d.count(), "another host's 401 is not ours to answer")
			require.NotZero(t, store.count())
			for _, r := range store.requests {
				require.False(t, carriesSecrets(r), r.Header)
			}
		})
	}
}

// TestLoopbackThroughAStart: a server elsewhere must not lead to the pod itself.
func TestLoopbackThroughAStart(t *testing.T) {
	s := newSite(t, []byte("token"))
	elsewhere, err := url.Parse("http://registry.example")
	require.NoError(t, err)
	o := options(newClock())
	o.Start = source.NewStart(elsewhere)
	require.Equal(t, source.AddressRefused, failure(t, s.url(), o).Reason())
	require.Zero(t, s.count())

	other := newSite(t, []byte("first"))
	home, err := url.Parse(other.URL)
	require.NoError(t, err)
	o.Start = source.NewStart(home)
	open(t, other.url(), o)
	open(t, s.url(), o)
	require.Equal(t, 1, s.count())
}
