package source_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/gild-project/gild/pkg/source"
)

// nameServer answers question number n (from 0, two questions for each lookup: IPv4 and IPv6).
func nameServer(t *testing.T, answer func(n int, q dnsmessage.Question, b *dnsmessage.Message)) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() { require.NoError(t, conn.Close()); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for n := 0; ; n++ {
			size, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buffer[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
			answer(n, m.Questions[0], &reply)
			packed, err := reply.Pack()
			if err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func address(q dnsmessage.Question, ip [4]byte, reply *dnsmessage.Message) {
	if q.Type == dnsmessage.TypeA {
		reply.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: ip}}}
	}
}

func TestUnknownHost(t *testing.T) {
	clock := newClock()
	o := options(clock)
	o.Resolver = nameServer(t, func(_ int, _ dnsmessage.Question, reply *dnsmessage.Message) { reply.RCode = dnsmessage.RCodeNameError })
	e := failure(t, "http://images.example./disk?"+canary, o)
	require.Equal(t, source.HostNotFound, e.Reason())
	require.ErrorContains(t, e, "images.example")
	require.Equal(t, 15*time.Second, clock.total(), "somebody waits for the typing error")
}

func TestHostThatAppears(t *testing.T) {
	s := newSite(t, []byte("body"))
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	o := options(newClock())
	o.Resolver = nameServer(t, func(n int, q dnsmessage.Question, reply *dnsmessage.Message) {
		if n < 4 {
			reply.RCode = dnsmessage.RCodeNameError
			return
		}
		address(q, [4]byte{127, 0, 0, 1}, reply)
	})
	open(t, "http://images.example.:"+u.Port()+"/disk", o)
}

func TestHostThatDisappearsInMidRun(t *testing.T) {
	s := newSite(t, random(mib))
	s.cutAt(1000, false)
	o := options(newClock())
	o.Resolver = nameServer(t, func(n int, q dnsmessage.Question, reply *dnsmessage.Message) {
		if n >= 2 {
			reply.RCode = dnsmessage.RCodeNameError
			return
		}
		address(q, [4]byte{127, 0, 0, 1}, reply)
	})
	e := failure(t, "http://images.example.:"+port(t, s.URL)+"/disk?"+canary, o)
	require.Equal(t, source.LookupFailed, e.Reason(), "the host was there: the name server errs")
}

func TestNameServerThatFails(t *testing.T) {
	clock := newClock()
	o := options(clock)
	o.Resolver = nameServer(t, func(_ int, _ dnsmessage.Question, reply *dnsmessage.Message) {
		reply.RCode = dnsmessage.RCodeServerFailure
	})
	e := failure(t, "http://images.example./disk?"+canary, o)
	require.Equal(t, source.LookupFailed, e.Reason())
	require.Greater(t, clock.total(), 5*time.Minute, "a name server comes back")
}

func TestNameThatLeadsToAForbiddenAddress(t *testing.T) {
	o := options(newClock())
	o.Resolver = nameServer(t, func(_ int, q dnsmessage.Question, reply *dnsmessage.Message) {
		address(q, [4]byte{169, 254, 169, 254}, reply)
	})
	require.Equal(t, source.AddressRefused, failure(t, "http://metadata.example./"+"?"+canary, o).Reason())
}

// TestRedirectToLoopback needs a start that is not on the loopback: an address of this machine.
func TestRedirectToLoopback(t *testing.T) {
	outside := ownAddress(t)
	end := newSite(t, []byte("body"))
	listener, err := net.Listen("tcp", net.JoinHostPort(outside, "0"))
	require.NoError(t, err)
	locations := []string{end.url(), "http://localhost:" + port(t, end.URL) + "/", "http://0.0.0.0:" + port(t, end.URL) + "/", "http://[::ffff:127.0.0.1]:" + port(t, end.URL) + "/"}
	var n atomic.Int32
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, locations[int(n.Load())], http.StatusFound)
	})}
	go func() { _ = server.Serve(listener) }()
	defer func() { require.NoError(t, server.Close()) }()
	for i := range locations {
		n.Store(int32(i))
		e := failure(t, "http://"+listener.Addr().String()+"/disk?"+canary, options(newClock()))
		require.Equal(t, source.AddressRefused, e.Reason(), locations[i])
	}
	require.Zero(t, end.count())
}

func port(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Port()
}

// ownAddress is an address of this machine that is neither loopback nor link-local.
func ownAddress(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			return ip.IP.String()
		}
	}
	t.Skip("SKIPPED: needs a network interface beside the loopback")
	return ""
}

// proxy forwards plain requests, or answers as told.
func proxy(t *testing.T, answer func(w http.ResponseWriter, r *http.Request) bool) *site {
	t.Helper()
	p := newSite(t, nil)
	p.spoil = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if answer != nil && answer(w, r) {
			return true
		}
		_, _ = w.Write([]byte("from the proxy: " + r.URL.Host))
		return true
	}
	return p
}

func TestProxyFromTheEnvironment(t *testing.T) {
	p := proxy(t, nil)
	t.Setenv("HTTP_PROXY", p.URL)
	t.Setenv("NO_PROXY", "direct.example")
	got, err := readAll(t.Context(), open(t, "http://images.example/disk", options(newClock())), 100)
	require.NoError(t, err)
	require.Equal(t, "from the proxy: images.example", string(got))

	o := options(newClock())
	o.Resolver = nameServer(t, func(_ int, _ dnsmessage.Question, reply *dnsmessage.Message) { reply.RCode = dnsmessage.RCodeNameError })
	require.Equal(t, source.HostNotFound, failure(t, "http://direct.example/disk", o).Reason())
}

func TestProxyDoesNotHideForbiddenAddresses(t *testing.T) {
	p := proxy(t, nil)
	t.Setenv("HTTP_PROXY", p.URL)
	require.Equal(t, source.AddressRefused, failure(t, "http://169.254.169.254/latest?"+canary, options(newClock())).Reason())
	require.Zero(t, p.count())
}

func TestProxyThatRefuses(t *testing.T) {
	for status, want := range map[int]string{407: source.AuthenticationFailed, 403: source.SourceRefused, 502: source.ServerError} {
		p := proxy(t, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(status); return true })
		t.Setenv("HTTPS_PROXY", "http://user:"+canary+"@"+p.Listener.Addr().String())
		require.Equal(t, want, failure(t, "https://images.example/disk?"+canary, options(newClock())).Reason())
	}
	p := proxy(t, func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(407); return true })
	t.Setenv("HTTP_PROXY", "http://user:"+canary+"@"+p.Listener.Addr().String())
	require.Equal(t, source.AuthenticationFailed, failure(t, "http://images.example/disk?"+canary, options(newClock())).Reason())
}

func TestProxyThatHangsUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n')
			_ = conn.Close()
		}
	}()
	defer func() { require.NoError(t, listener.Close()); <-done }()
	t.Setenv("HTTPS_PROXY", "http://"+listener.Addr().String())
	require.Equal(t, source.ConnectionFailed, failure(t, "https://images.example/disk?"+canary, options(newClock())).Reason())
}
