package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"sigs.k8s.io/knftables"
)

// announcement is an address that was given to a pod before the API server
// hears of it.
type announcement struct {
	UID     string     `json:"uid"`
	Address netip.Addr `json:"address"`
}

// enforcer keeps the table as the policies say.
type enforcer struct {
	tables     knftables.Interface
	bridge     string
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister

	mutex     sync.Mutex
	announced map[string]announcement // by the pod's UID
	last      string                  // the transaction that made the table what it is
	known     map[string]bool         // the UIDs of the pods in it
}

// apply computes the table and writes it if it changed.
func (e *enforcer) apply(ctx context.Context) error {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	w, err := e.look()
	if err != nil {
		return err
	}
	isolated, problems := compile(w)
	tx := e.tables.NewTransaction()
	write(tx, e.bridge, isolated)
	if next := tx.String(); next != e.last {
		for _, problem := range problems {
			slog.Warn("policy is not enforced in full", "error", problem)
		}
		if err := e.tables.Run(ctx, tx); err != nil {
			return fmt.Errorf("writing the table: %w", err)
		}
		e.last = next
		slog.Info("wrote the table", "isolated", len(isolated))
	}
	e.known = map[string]bool{}
	for _, p := range w.pods {
		e.known[p.uid] = true
	}
	return nil
}

// look reads everything from the caches.
func (e *enforcer) look() (world, error) {
	pods, err := e.pods.List(labels.Everything())
	if err != nil {
		return world{}, fmt.Errorf("listing pods: %w", err)
	}
	namespaces, err := e.namespaces.List(labels.Everything())
	if err != nil {
		return world{}, fmt.Errorf("listing namespaces: %w", err)
	}
	policies, err := e.policies.List(labels.Everything())
	if err != nil {
		return world{}, fmt.Errorf("listing policies: %w", err)
	}
	w := world{namespaces: map[string]labels.Set{}, policies: sorted(policies)}
	for _, namespace := range namespaces {
		w.namespaces[namespace.Name] = namespace.Labels
	}
	w.pods = addressed(pods, e.announced)
	return w, nil
}

// addressed returns the pods that have an address now. An announced one goes
// before what the API server says, and takes it from a pod that had it before.
func addressed(pods []*corev1.Pod, announced map[string]announcement) []pod {
	owner := map[netip.Addr]string{}
	for uid, a := range announced {
		owner[a.Address] = uid
	}
	var result []pod
	for _, p := range pods {
		if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		address := announced[string(p.UID)].Address
		if !address.IsValid() {
			parsed, err := netip.ParseAddr(p.Status.PodIP)
			if err != nil || owner[parsed] != "" {
				continue // it has none yet, or none any more
			}
			address = parsed
		}
		var ports []corev1.ContainerPort
		for i := range p.Spec.Containers {
			ports = append(ports, p.Spec.Containers[i].Ports...)
		}
		result = append(result, pod{
			uid: string(p.UID), namespace: p.Namespace, name: p.Name, labels: p.Labels, address: address, ports: ports,
		})
	}
	return result
}

// forget drops what was announced of pods that are gone.
func (e *enforcer) forget(uid string) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	delete(e.announced, uid)
}

func sorted(policies []*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy {
	byName := func(a, b *networkingv1.NetworkPolicy) int {
		return cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	}
	return slices.SortedFunc(slices.Values(policies), byName)
}
