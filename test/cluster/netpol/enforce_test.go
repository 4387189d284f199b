package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/knftables"
)

func newPod(name, address string, phase corev1.PodPhase) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{UID: types.UID(name), Namespace: "a", Name: name, Labels: map[string]string{"app": name}},
		Status:     corev1.PodStatus{PodIP: address, Phase: phase},
	}
}

func TestAddressed(t *testing.T) {
	host := newPod("host", "10.0.0.9", corev1.PodRunning)
	host.Spec.HostNetwork = true
	found := addressed([]*corev1.Pod{
		newPod("running", "10.0.0.1", corev1.PodRunning),
		newPod("done", "10.0.0.2", corev1.PodSucceeded),
		newPod("failed", "10.0.0.3", corev1.PodFailed),
		newPod("unheard", "", corev1.PodPending),
		newPod("starting", "", corev1.PodPending),
		newPod("had it before", "10.0.0.4", corev1.PodRunning),
		host,
	}, map[string]announcement{"starting": {UID: "starting", Address: netip.MustParseAddr("10.0.0.4")}})

	addresses := map[string]string{}
	for _, p := range found {
		addresses[p.name] = p.address.String()
	}
	require.Equal(t, map[string]string{"running": "10.0.0.1", "starting": "10.0.0.4"}, addresses)
}

// newEnforcer has caches that the test fills, and a table in memory.
func newEnforcer(t *testing.T) (e *enforcer, pods cache.Indexer, table *knftables.Fake) {
	t.Helper()
	newCache := func() cache.Indexer {
		return cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	}
	pods, namespaces, policies := newCache(), newCache(), newCache()
	require.NoError(t, namespaces.Add(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}))
	require.NoError(t, policies.Add(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "deny"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{out}, PodSelector: *selector("held")},
	}))
	table = knftables.NewFake(knftables.InetFamily, "policies")
	return &enforcer{
		tables: table, bridge: "bridge0", announced: map[string]announcement{}, pods: corelisters.NewPodLister(pods),
		namespaces: corelisters.NewNamespaceLister(namespaces), policies: networkinglisters.NewNetworkPolicyLister(policies),
	}, pods, table
}

func TestAnnouncedPodIsHeldBeforeItRuns(t *testing.T) {
	e, pods, table := newEnforcer(t)
	socket := filepath.Join(t.TempDir(), "s")
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.serve(ctx, socket) }()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	announce := func(body string) int {
		var status int
		require.Eventually(t, func() bool { // the socket is not there at once
			response, err := client.Post("http://netpol/pods", "application/json", bytes.NewBufferString(body))
			if err != nil {
				return false
			}
			status = response.StatusCode
			return response.Body.Close() == nil
		}, knownWithin, lookAgain)
		return status
	}
	require.Equal(t, http.StatusBadRequest, announce("not JSON"))

	body, err := json.Marshal(announcement{UID: "held", Address: netip.MustParseAddr("10.0.0.5")})
	require.NoError(t, err)
	answered := make(chan int, 1)
	go func() { answered <- announce(string(body)) }()
	require.Never(t, func() bool { return len(answered) > 0 }, 5*lookAgain, lookAgain, "the pod is not known yet")
	require.NoError(t, pods.Add(newPod("held", "", corev1.PodPending)))
	require.Equal(t, http.StatusNoContent, <-answered)
	require.Contains(t, table.Dump(), "add element inet policies egress { 10.0.0.5 : jump egress-held }")

	require.NoError(t, pods.Delete(newPod("held", "", corev1.PodPending)))
	e.forget("held")
	require.NoError(t, e.apply(t.Context()))
	require.NotContains(t, table.Dump(), "10.0.0.5")
	stop()
	require.NoError(t, <-served)
}

func TestWelcomeGivesUpOnAnUnknownPod(t *testing.T) {
	e, _, _ := newEnforcer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*lookAgain)
	defer cancel()
	err := e.welcome(ctx, announcement{UID: "stranger", Address: netip.MustParseAddr("10.0.0.6")})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestRememberGivesAnAddressToOnePodOnly(t *testing.T) {
	e, _, _ := newEnforcer(t)
	address := netip.MustParseAddr("10.0.0.7")
	e.remember(announcement{UID: "first", Address: address})
	e.remember(announcement{UID: "second", Address: address})
	require.Equal(t, map[string]announcement{"second": {UID: "second", Address: address}}, e.announced)
}
