package main

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func service(name string, spec corev1.ServiceSpec) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Spec: spec}
}

func endpoints(of, slice string, all ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: slice, Labels: map[string]string{discoveryv1.LabelServiceName: of}},
		Endpoints:  all,
	}
}

func testZone() zone {
	many := make([]discoveryv1.Endpoint, 0, 60)
	for i := range 60 {
		many = append(many, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.0.1.%d", i)}})
	}
	return newZone("cluster.local",
		[]*corev1.Service{
			service("web", corev1.ServiceSpec{ClusterIP: "10.1.0.5", ClusterIPs: []string{"10.1.0.5"}}),
			service("peers", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}),
			service("crowd", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}),
			service("inside", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "Web.a.svc.cluster.local."}),
			service("outside", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.org"}),
			service("circle", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "circle.a.svc.cluster.local"}),
		},
		[]*discoveryv1.EndpointSlice{
			endpoints("web", "web-1", discoveryv1.Endpoint{Addresses: []string{"10.0.0.1"}}),
			endpoints("peers", "peers-1",
				discoveryv1.Endpoint{Addresses: []string{"10.0.0.2"}, Hostname: ptr.To("first")},
				discoveryv1.Endpoint{Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false)}}),
			endpoints("peers", "peers-2", discoveryv1.Endpoint{Addresses: []string{"10.0.0.4"}}),
			endpoints("crowd", "crowd-1", many...),
			endpoints("unknown", "unknown-1", discoveryv1.Endpoint{Addresses: []string{"10.0.0.5"}}),
		},
		map[string]string{"Cloud.Example.org": "192.0.2.7, 2001:db8::7\n", "broken.example.org": "not an address"},
	)
}

// listen serves the zone on a free port of the loopback interface, UDP and TCP.
func listen(t *testing.T, names *server) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	started := make(chan struct{}, 2)
	one, two := &dns.Server{PacketConn: packets, Handler: names}, &dns.Server{Listener: listener, Handler: names}
	for _, s := range []*dns.Server{one, two} {
		s.NotifyStartedFunc = func() { started <- struct{}{} }
	}
	go func() { ended <- names.answer(ctx, one, two) }()
	<-started
	<-started
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	return listener.Addr().String()
}

func TestAnswersOverTheNetwork(t *testing.T) {
	names := &server{}
	names.set(testZone())
	address := listen(t, names)
	for name, test := range map[string]struct {
		name    string
		kind    uint16
		rcode   int
		answers []string
	}{
		"service":                      {"web.a.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.1.0.5"}},
		"upper case":                   {"WEB.A.svc.cluster.LOCAL.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.1.0.5"}},
		"service without IPv6":         {"web.a.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, nil},
		"headless: ready endpoints":    {"peers.a.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.0.0.2", "A 10.0.0.4"}},
		"endpoint with a name":         {"first.peers.a.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"A 10.0.0.2"}},
		"alias":                        {"inside.a.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME web.a.svc.cluster.local.", "A 10.1.0.5"}},
		"alias of a name elsewhere":    {"outside.a.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, []string{"CNAME example.org."}},
		"alias of itself":              {"circle.a.svc.cluster.local.", dns.TypeA, dns.RcodeServerFailure, nil},
		"other namespace":              {"web.b.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		"endpoints without a service":  {"unknown.a.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, nil},
		"host":                         {"cloud.example.org.", dns.TypeA, dns.RcodeSuccess, []string{"A 192.0.2.7"}},
		"host, IPv6":                   {"cloud.example.org.", dns.TypeAAAA, dns.RcodeSuccess, []string{"AAAA 2001:db8::7"}},
		"host without a valid address": {"broken.example.org.", dns.TypeA, dns.RcodeSuccess, nil},
		"any other name":               {"www.example.org.", dns.TypeA, dns.RcodeNameError, nil},
	} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(name+" over "+network, func(t *testing.T) {
				reply := ask(t, network, address, new(dns.Msg).SetQuestion(test.name, test.kind))
				require.Equal(t, test.rcode, reply.Rcode, dns.RcodeToString[reply.Rcode])
				require.Equal(t, test.answers, texts(reply))
			})
		}
	}

	t.Run("an answer too long for UDP is asked for again over TCP", func(t *testing.T) {
		question := new(dns.Msg).SetQuestion("crowd.a.svc.cluster.local.", dns.TypeA)
		require.True(t, ask(t, "udp", address, question).Truncated)
		require.Len(t, ask(t, "tcp", address, question).Answer, 60)
		require.Len(t, ask(t, "udp", address, question.Copy().SetEdns0(4096, false)).Answer, 60)
	})
	t.Run("other requests", func(t *testing.T) {
		require.Equal(t, dns.RcodeNotImplemented, ask(t, "udp", address, new(dns.Msg).SetUpdate("cluster.local.")).Rcode)
	})
}

func ask(t *testing.T, network, address string, message *dns.Msg) *dns.Msg {
	t.Helper()
	client := dns.Client{Net: network, UDPSize: dns.MaxMsgSize}
	reply, _, err := client.ExchangeContext(t.Context(), message, address)
	require.NoError(t, err)
	return reply
}

// texts returns the answers as "TYPE VALUE".
func texts(reply *dns.Msg) []string {
	var all []string
	for _, answer := range reply.Answer {
		switch record := answer.(type) {
		case *dns.A:
			all = append(all, "A "+record.A.String())
		case *dns.AAAA:
			all = append(all, "AAAA "+record.AAAA.String())
		case *dns.CNAME:
			all = append(all, "CNAME "+record.Target)
		}
	}
	return all
}
