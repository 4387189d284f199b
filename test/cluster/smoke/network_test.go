//go:build e2e

package smoke

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

// service makes a Service of a pod that serves, and returns its cluster IP.
func (c *cluster) service(name, app, clusterIP string) string {
	c.Helper()
	service, err := c.CoreV1().Services(c.namespace).Create(c.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{ClusterIP: clusterIP, Selector: map[string]string{"app": app},
			Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(port)}}},
	}, metav1.CreateOptions{})
	require.NoError(c, err)
	return service.Spec.ClusterIP
}

// ready waits until the Service has an endpoint.
func (c *cluster) ready(service string) {
	c.Helper()
	c.eventually("service "+service+" has an endpoint", func() bool {
		slices, err := c.DiscoveryV1().EndpointSlices(c.namespace).List(c.Context(), metav1.ListOptions{
			LabelSelector: "kubernetes.io/service-name=" + service})
		require.NoError(c, err)
		return len(slices.Items) > 0 && len(slices.Items[0].Endpoints) > 0
	})
}

func TestNames(t *testing.T) {
	c := newCluster(t)
	address := c.serve("web")
	clusterIP := c.service("web", "web", "")
	c.service("headless", "web", corev1.ClusterIPNone)
	c.ready("web")
	c.ready("headless")
	host := c.namespace + ".example.org"
	c.addHost(host, "192.0.2.77")
	full := "web." + c.namespace + ".svc.cluster.local"
	require.Equal(t, []string{
		"web " + clusterIP,
		full + " " + clusterIP,
		"headless " + address,
		host + " 192.0.2.77",
		"nothing.example.org none",
		"nothing." + full + " none",
	}, c.run("resolver", nil, "resolve", "web", full, "headless", host, "nothing.example.org", "nothing."+full))
	require.Equal(t, []string{"web:80 open", "web:81 closed"}, c.run("dialer", nil, "dial", "web:80", "web:81"))
}

// addHost adds a name to the hosts of the cluster's name server.
func (c *cluster) addHost(name, address string) {
	c.Helper()
	const hosts = "gild-test-hosts"
	maps := c.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	_, err := maps.Create(c.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: hosts}}, metav1.CreateOptions{})
	if err != nil {
		require.True(c, apierrors.IsAlreadyExists(err), err)
	}
	c.eventually("the host is added", func() bool {
		configMap, err := maps.Get(c.Context(), hosts, metav1.GetOptions{})
		require.NoError(c, err)
		if configMap.Data == nil {
			configMap.Data = map[string]string{}
		}
		configMap.Data[name] = address
		_, err = maps.Update(c.Context(), configMap, metav1.UpdateOptions{})
		require.True(c, err == nil || apierrors.IsConflict(err), err)
		return err == nil
	})
}

// policy makes a policy for the pods of an app that allows name servers and the
// given egress.
func (c *cluster) policy(app string, spec networkingv1.NetworkPolicySpec) {
	c.Helper()
	spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
	_, err := c.NetworkingV1().NetworkPolicies(c.namespace).Create(c.Context(), &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: app}, Spec: spec,
	}, metav1.CreateOptions{})
	require.NoError(c, err)
}

func TestNetworkPolicies(t *testing.T) {
	c := newCluster(t)
	at := func(address string) string { return net.JoinHostPort(address, strconv.Itoa(port)) }
	open, shut := at(c.serve("open")), at(c.serve("shut"))
	api, err := c.CoreV1().Services(metav1.NamespaceDefault).Get(t.Context(), "kubernetes", metav1.GetOptions{})
	require.NoError(t, err)
	server := net.JoinHostPort(api.Spec.ClusterIP, "443")
	c.service("open", "open", "")
	c.ready("open")
	require.Equal(t, []string{open + " open", shut + " open", server + " open", "open:80 open"},
		c.run("free", nil, "dial", open, shut, server, "open:80"))

	onlyTCP := []networkingv1.NetworkPolicyPort{{Port: ptr.To(intstr.FromInt32(port))}}
	c.policy("held", networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Egress: []networkingv1.NetworkPolicyEgressRule{
			{Ports: []networkingv1.NetworkPolicyPort{{Protocol: ptr.To(corev1.ProtocolUDP), Port: ptr.To(intstr.FromInt32(53))}}},
			{Ports: onlyTCP, To: []networkingv1.NetworkPolicyPeer{
				{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "open"}}}}},
		},
	})
	// These are the first packets that the pods send: policies hold from the start.
	require.Equal(t, []string{server + " closed", shut + " closed", open + " open", "open:80 open"},
		c.run("held", nil, "dial", server, shut, open, "open:80"))

	c.policy("shut", networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		Ingress: []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{
			{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "friend"}}}}}},
	})
	c.start("waiting", nil, "serve", ":8080") // a change of pods does not undo the policy
	require.Equal(t, []string{shut + " closed", open + " open"}, c.run("stranger", nil, "dial", shut, open))
	require.Equal(t, []string{shut + " open"}, c.run("friend", nil, "dial", shut))
}
