package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// lifetime is how long, in seconds, an answer may be kept. Tests move services about.
const lifetime = 1

// server answers from the zone it was last given.
type server struct{ current atomic.Pointer[zone] }

func (s *server) set(z zone) { s.current.Store(&z) }

// serve answers on UDP and TCP until ctx ends.
func (s *server) serve(ctx context.Context, address string) error {
	packets, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", address)
	if err != nil {
		return fmt.Errorf("listening on UDP: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return errors.Join(fmt.Errorf("listening on TCP: %w", err), packets.Close())
	}
	return s.answer(ctx, &dns.Server{PacketConn: packets, Handler: s}, &dns.Server{Listener: listener, Handler: s})
}

// answer runs the servers until ctx ends or one of them fails.
func (s *server) answer(ctx context.Context, servers ...*dns.Server) error {
	ended := make(chan error, len(servers))
	for _, one := range servers {
		go func() { ended <- one.ActivateAndServe() }()
	}
	var failures []error
	running := len(servers)
	select {
	case <-ctx.Done():
	case err := <-ended:
		running--
		failures = append(failures, fmt.Errorf("answering: %w", err))
	}
	for _, one := range servers {
		// The error says only that it has not started or has ended.
		_ = one.Shutdown()
	}
	for range running {
		failures = append(failures, <-ended)
	}
	return errors.Join(failures...)
}

// ServeDNS answers one question.
func (s *server) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	reply := new(dns.Msg).SetReply(request)
	reply.Authoritative = true
	switch {
	case request.Opcode != dns.OpcodeQuery || len(request.Question) != 1:
		reply.Rcode = dns.RcodeNotImplemented
	default:
		names := *s.current.Load()
		reply.Answer, reply.Rcode = names.resolve(request.Question[0])
	}
	if _, overUDP := w.RemoteAddr().(*net.UDPAddr); overUDP {
		size := dns.MinMsgSize
		if option := request.IsEdns0(); option != nil {
			size = max(size, int(option.UDPSize()))
		}
		reply.Truncate(size)
	}
	// A client that is gone asks again; there is nobody to tell.
	_ = w.WriteMsg(reply)
}

// resolve answers a question. A name that exists but has no address of the
// asked family gets an empty answer, any other name does not exist.
func (z zone) resolve(question dns.Question) ([]dns.RR, int) {
	const maxAliases = 8
	name := strings.ToLower(strings.TrimSuffix(question.Name, "."))
	owner := question.Name
	var answers []dns.RR
	for range maxAliases {
		known, found := z[name]
		if !found {
			if len(answers) > 0 {
				return answers, dns.RcodeSuccess // an alias of a name that is not ours
			}
			return nil, dns.RcodeNameError
		}
		if known.alias == "" {
			return append(answers, addressRecords(owner, known, question.Qtype)...), dns.RcodeSuccess
		}
		answers = append(answers, &dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: dns.Fqdn(known.alias)})
		name, owner = known.alias, dns.Fqdn(known.alias)
	}
	return nil, dns.RcodeServerFailure
}

func addressRecords(owner string, known entry, kind uint16) []dns.RR {
	var answers []dns.RR
	for _, address := range known.addresses {
		switch {
		case kind == dns.TypeA && address.Is4():
			answers = append(answers, &dns.A{Hdr: header(owner, kind), A: address.AsSlice()})
		case kind == dns.TypeAAAA && address.Is6():
			answers = append(answers, &dns.AAAA{Hdr: header(owner, kind), AAAA: address.AsSlice()})
		}
	}
	return answers
}

func header(owner string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET, Ttl: lifetime}
}
