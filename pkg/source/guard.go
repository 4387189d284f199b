package source

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// guard decides which addresses are contacted. It looks at them after the name lookup, so
// that a name cannot lead where an address may not.
//
// Link-local addresses are never contacted: cloud metadata services live there, but for one. Loopback is
// refused after a redirect from elsewhere: a foreign server must not reach the pod itself.
// Private addresses are allowed, because mirrors in the cluster are normal.
type guard struct {
	dialer net.Dialer
	start  *Start

	mu      sync.Mutex
	proxies map[string]bool
}

func newGuard(start *Start, timeout time.Duration, resolver *net.Resolver) *guard {
	return &guard{dialer: net.Dialer{Timeout: timeout, Resolver: resolver}, start: start, proxies: map[string]bool{}}
}

// Start is the server that the user named. Others are contacted because it says so, by a
// redirect or as the server to log in at; it alone decides whether they may be on loopback.
type Start struct {
	address  string
	loopback atomic.Bool
}

// NewStart is the server of u. Its own Open must come before those of URLs that it leads to.
func NewStart(u *url.URL) *Start { return &Start{address: hostPort(u)} }

// trust marks the address of a proxy: the administrator set it, not the source.
func (g *guard) trust(proxy *url.URL) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proxies[hostPort(proxy)] = true
}

// dial is the DialContext of the transport.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	address = strings.ToLower(address)
	dialer := g.dialer
	dialer.Control = func(_, to string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(to)
		if err != nil {
			return fail(AddressRefused, "the address "+to+" cannot be checked")
		}
		return g.check(address, ap.Addr())
	}
	return dialer.DialContext(ctx, network, address)
}

// metadataIPv6 is where the largest cloud's metadata service answers over IPv6; it is not link-local.
func metadataIPv6() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x0e, 3: 0xc2, 14: 0x02, 15: 0x54})
}

// check judges the address ip found for the host and port in address.
func (g *guard) check(address string, ip netip.Addr) error {
	ip = embedded(ip)
	if ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() {
		return fail(AddressRefused, fmt.Sprintf("%s is at the link-local address %s, which is never contacted", address, ip))
	}
	if ip == metadataIPv6() {
		return fail(AddressRefused, fmt.Sprintf("%s is at %s, a metadata service, which is never contacted", address, ip))
	}
	// The unspecified address also reaches the local host.
	loopback := ip.IsLoopback() || ip.IsUnspecified()
	switch {
	case g.trusts(address):
	case address == g.start.address:
		g.start.loopback.Store(loopback)
	case loopback && !g.start.loopback.Load():
		return fail(AddressRefused, fmt.Sprintf("the source leads to %s at the loopback address %s, which is not followed", address, ip))
	}
	return nil
}

func (g *guard) trusts(address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proxies[address]
}

// checkURL judges a URL whose host is an address. A proxy would contact it for us, out of
// the sight of dial.
func (g *guard) checkURL(u *url.URL) error {
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return g.check(hostPort(u), ip)
	}
	return nil
}

// embedded returns the IPv4 address that an IPv6 one stands for: mapped, or behind NAT64.
func embedded(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	nat64 := netip.MustParsePrefix("64:ff9b::/96")
	if nat64.Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}
