package main

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/knftables"
)

const (
	in  = networkingv1.PolicyTypeIngress
	out = networkingv1.PolicyTypeEgress
)

func selector(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func byPod(name string) networkingv1.NetworkPolicyPeer {
	return networkingv1.NetworkPolicyPeer{PodSelector: selector(name)}
}

func number(protocol corev1.Protocol, from int32) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: ptr.To(intstr.FromInt32(from))}
}

func egressTo(ports []networkingv1.NetworkPolicyPort, peers ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicySpec {
	return networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{out},
		Egress: []networkingv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}}}
}

func ingressFrom(ports []networkingv1.NetworkPolicyPort, peers ...networkingv1.NetworkPolicyPeer) networkingv1.NetworkPolicySpec {
	return networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{in},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}}
}

// three pods: one and two in namespace a, three in b.
func testWorld(policies ...*networkingv1.NetworkPolicy) world {
	newPod := func(name, namespace, address string) pod {
		return pod{uid: name, namespace: namespace, name: name, labels: labels.Set{"app": name}, address: netip.MustParseAddr(address),
			ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}}
	}
	return world{
		pods:       []pod{newPod("one", "a", "10.0.0.1"), newPod("two", "a", "10.0.0.2"), newPod("three", "b", "10.0.0.3")},
		namespaces: map[string]labels.Set{"a": {"team": "x"}, "b": {"team": "y"}},
		policies:   policies,
	}
}

func TestCompile(t *testing.T) {
	allNamespaces := &metav1.LabelSelector{}
	for name, test := range map[string]struct {
		spec     networkingv1.NetworkPolicySpec
		ingress  *allowed
		egress   *allowed
		problems string
	}{
		"deny all": {
			spec:    networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{in, out}},
			ingress: &allowed{}, egress: &allowed{},
		},
		"a rule without peers and ports allows all": {spec: egressTo(nil), egress: &allowed{[]string{""}}},
		"ports without peers": {
			spec:   egressTo([]networkingv1.NetworkPolicyPort{number(corev1.ProtocolUDP, 53), number(corev1.ProtocolTCP, 53)}),
			egress: &allowed{[]string{"udp dport 53", "tcp dport 53"}},
		},
		"a protocol without a port": {
			spec:   egressTo([]networkingv1.NetworkPolicyPort{{Protocol: ptr.To(corev1.ProtocolSCTP)}}),
			egress: &allowed{[]string{"meta l4proto sctp"}},
		},
		"a range of ports": {
			spec:   egressTo([]networkingv1.NetworkPolicyPort{{Port: ptr.To(intstr.FromInt32(80)), EndPort: ptr.To(int32(90))}}),
			egress: &allowed{[]string{"tcp dport 80-90"}},
		},
		"pods of the policy's namespace":       {spec: ingressFrom(nil, byPod("two")), ingress: &allowed{[]string{"ip saddr { 10.0.0.2 }"}}},
		"pods of another namespace are others": {spec: ingressFrom(nil, byPod("three")), ingress: &allowed{}},
		"every namespace": {
			spec:    ingressFrom(nil, networkingv1.NetworkPolicyPeer{NamespaceSelector: allNamespaces}),
			ingress: &allowed{[]string{"ip saddr { 10.0.0.1, 10.0.0.2, 10.0.0.3 }"}},
		},
		"pods of some namespaces": {
			spec: ingressFrom(nil, networkingv1.NetworkPolicyPeer{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "y"}}, PodSelector: selector("three")}),
			ingress: &allowed{[]string{"ip saddr { 10.0.0.3 }"}},
		},
		"a range of addresses with exceptions and a port": {
			spec: egressTo([]networkingv1.NetworkPolicyPort{number(corev1.ProtocolTCP, 443)}, networkingv1.NetworkPolicyPeer{
				IPBlock: &networkingv1.IPBlock{CIDR: "10.1.2.3/8", Except: []string{"10.0.0.0/16", "10.0.0.0/24"}}}),
			egress: &allowed{[]string{"ip daddr 10.0.0.0/8 ip daddr != 10.0.0.0/16 ip daddr != 10.0.0.0/24 tcp dport 443"}},
		},
		"a range of IPv6 matches nobody": {
			spec:   egressTo(nil, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "::/0"}}),
			egress: &allowed{},
		},
		"a named port of the pod": {
			spec: ingressFrom([]networkingv1.NetworkPolicyPort{
				{Port: ptr.To(intstr.FromString("web"))}, {Port: ptr.To(intstr.FromString("unknown"))}}),
			ingress: &allowed{[]string{"tcp dport 8080"}},
		},
		"a named port in egress allows nothing and is said": {
			spec:     egressTo([]networkingv1.NetworkPolicyPort{{Port: ptr.To(intstr.FromString("web"))}}),
			egress:   &allowed{},
			problems: "policy a/p, Egress rule 0 allows nothing: port web is a name",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.spec.PodSelector = *selector("one")
			policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: test.spec}
			isolated, problems := compile(testWorld(policy))
			require.Len(t, isolated, 1)
			require.Equal(t, "one", isolated[0].pod.name)
			require.Equal(t, test.ingress, isolated[0].ingress)
			require.Equal(t, test.egress, isolated[0].egress)
			if test.problems == "" {
				require.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1)
			require.ErrorContains(t, problems[0], test.problems)
		})
	}
}

func TestPoliciesAddUpAndSelectByNamespace(t *testing.T) {
	policy := func(namespace string, spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p"}, Spec: spec}
	}
	isolated, problems := compile(testWorld(
		policy("a", ingressFrom(nil, byPod("two"))),
		policy("a", ingressFrom([]networkingv1.NetworkPolicyPort{number(corev1.ProtocolTCP, 80)})),
		policy("c", ingressFrom(nil)),
	))
	require.Empty(t, problems)
	require.Len(t, isolated, 2, "an empty selector selects the policy's namespace")
	for _, one := range isolated {
		require.Equal(t, "a", one.pod.namespace)
		require.Nil(t, one.egress)
		require.Equal(t, &allowed{[]string{"ip saddr { 10.0.0.2 }", "tcp dport 80"}}, one.ingress)
	}
}

func TestWrite(t *testing.T) {
	fake := knftables.NewFake(knftables.InetFamily, "policies")
	for _, allows := range []string{"tcp dport 80", "udp dport 53"} { // the second replaces the first
		tx := fake.NewTransaction()
		write(tx, "bridge0", []isolation{{pod: testWorld().pods[0], egress: &allowed{[]string{allows}}, ingress: &allowed{}}})
		require.NoError(t, fake.Run(t.Context(), tx))
	}
	require.Equal(t, `add table inet policies { comment "NetworkPolicies of the Gild test cluster" ; }
add chain inet policies egress-one { comment "a/one" ; }
add chain inet policies forward { type filter hook forward priority 0 ; }
add chain inet policies ingress-one { comment "a/one" ; }
add chain inet policies input { type filter hook input priority 0 ; }
add map inet policies egress { type ipv4_addr : verdict ; }
add map inet policies ingress { type ipv4_addr : verdict ; }
add rule inet policies egress-one udp dport 53 return
add rule inet policies egress-one drop
add rule inet policies forward ct state established,related accept
add rule inet policies forward iifname bridge0 meta nfproto ipv6 drop
add rule inet policies forward ip saddr vmap @egress
add rule inet policies forward ip daddr vmap @ingress
add rule inet policies ingress-one drop
add rule inet policies input ct state established,related accept
add rule inet policies input iifname bridge0 meta nfproto ipv6 drop
add rule inet policies input ip saddr vmap @egress
add element inet policies egress { 10.0.0.1 : jump egress-one }
add element inet policies ingress { 10.0.0.1 : jump ingress-one }
`, fake.Dump())
}
