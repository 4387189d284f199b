package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// world is all that decides who may talk to whom.
type world struct {
	pods       []pod
	namespaces map[string]labels.Set
	policies   []*networkingv1.NetworkPolicy
}

// pod is a pod with an address of its own.
type pod struct {
	uid, namespace, name string
	labels               labels.Set
	address              netip.Addr
	ports                []corev1.ContainerPort
}

// isolation is what a pod that policies select may do. Nil means all.
type isolation struct {
	pod             pod
	ingress, egress *allowed
}

// allowed lists matches of packets, in the language of nft. None allows nothing.
type allowed struct{ matches []string }

// direction is one side of a policy.
type direction struct {
	kind     networkingv1.PolicyType
	peerSide string // where a packet names the other side
}

// compile returns the pods that are selected by a policy, and what it could not
// compile. Policies add up: a packet passes if any of them allows it.
func compile(w world) (isolated []isolation, problems []error) {
	ingress := direction{networkingv1.PolicyTypeIngress, "ip saddr"}
	egress := direction{networkingv1.PolicyTypeEgress, "ip daddr"}
	for _, p := range w.pods {
		one := isolation{pod: p}
		var errs []error
		one.ingress, errs = w.allow(p, ingress)
		problems = append(problems, errs...)
		one.egress, errs = w.allow(p, egress)
		problems = append(problems, errs...)
		if one.ingress != nil || one.egress != nil {
			isolated = append(isolated, one)
		}
	}
	slices.SortFunc(isolated, func(a, b isolation) int { return cmp.Compare(a.pod.uid, b.pod.uid) })
	return isolated, problems
}

// allow returns what policies let the pod do in a direction, or nil when none
// selects it for that direction.
func (w world) allow(p pod, d direction) (*allowed, []error) {
	var result *allowed
	var problems []error
	for _, policy := range w.policies {
		if policy.Namespace != p.namespace || !slices.Contains(policy.Spec.PolicyTypes, d.kind) {
			continue
		}
		selected, err := selects(&policy.Spec.PodSelector, p.labels)
		if err != nil {
			// Whom an unreadable selector means is unknown; the API server lets none through.
			problems = append(problems, fmt.Errorf("policy %s/%s: %w", policy.Namespace, policy.Name, err))
			continue
		}
		if !selected {
			continue
		}
		if result == nil {
			result = &allowed{}
		}
		for i, rule := range rulesOf(policy, d.kind) {
			matches, err := w.matches(rule, policy.Namespace, p, d)
			if err != nil {
				problems = append(problems, fmt.Errorf("policy %s/%s, %s rule %d allows nothing: %w", policy.Namespace, policy.Name, d.kind, i, err))
				continue
			}
			result.matches = append(result.matches, matches...)
		}
	}
	return result, problems
}

// rule is a rule of either direction.
type rule struct {
	peers []networkingv1.NetworkPolicyPeer
	ports []networkingv1.NetworkPolicyPort
}

func rulesOf(policy *networkingv1.NetworkPolicy, kind networkingv1.PolicyType) []rule {
	var rules []rule
	if kind == networkingv1.PolicyTypeIngress {
		for _, r := range policy.Spec.Ingress {
			rules = append(rules, rule{peers: r.From, ports: r.Ports})
		}
		return rules
	}
	for _, r := range policy.Spec.Egress {
		rules = append(rules, rule{peers: r.To, ports: r.Ports})
	}
	return rules
}

// matches returns one match for each pair of a peer and a port.
func (w world) matches(r rule, namespace string, p pod, d direction) ([]string, error) {
	peers, err := w.peerMatches(r.peers, namespace, d)
	if err != nil {
		return nil, err
	}
	ports, err := portMatches(r.ports, p, d)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, peer := range peers {
		for _, port := range ports {
			all = append(all, join(peer, port))
		}
	}
	return all, nil
}

func selects(selector *metav1.LabelSelector, set labels.Set) (bool, error) {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, fmt.Errorf("reading a selector: %w", err)
	}
	return parsed.Matches(set), nil
}
