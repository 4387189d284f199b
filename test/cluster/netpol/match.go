package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// anything is the match of every packet.
const anything = ""

// peerMatches returns matches of the other side of a packet. No peers in a rule
// means anybody; peers that no pod has means nobody.
func (w world) peerMatches(peers []networkingv1.NetworkPolicyPeer, namespace string, d direction) ([]string, error) {
	if len(peers) == 0 {
		return []string{anything}, nil
	}
	var matches []string
	for _, peer := range peers {
		if peer.IPBlock != nil {
			match, err := blockMatch(peer.IPBlock, d)
			if err != nil {
				return nil, err
			}
			matches = append(matches, match...)
			continue
		}
		addresses, err := w.addresses(peer, namespace)
		if err != nil {
			return nil, err
		}
		if len(addresses) > 0 {
			matches = append(matches, d.peerSide+" "+setOf(addresses))
		}
	}
	return matches, nil
}

// addresses returns those of the pods that a peer selects.
func (w world) addresses(peer networkingv1.NetworkPolicyPeer, namespace string) ([]string, error) {
	var addresses []string
	for _, p := range w.pods {
		inNamespace := p.namespace == namespace
		var err error
		if peer.NamespaceSelector != nil {
			if inNamespace, err = selects(peer.NamespaceSelector, w.namespaces[p.namespace]); err != nil {
				return nil, err
			}
		}
		selected := inNamespace
		if selected && peer.PodSelector != nil {
			if selected, err = selects(peer.PodSelector, p.labels); err != nil {
				return nil, err
			}
		}
		if selected {
			addresses = append(addresses, p.address.String())
		}
	}
	slices.Sort(addresses)
	return addresses, nil
}

// blockMatch returns the match of a range of addresses. No packet of this
// cluster has an address of a range of IPv6.
func blockMatch(block *networkingv1.IPBlock, d direction) ([]string, error) {
	prefix, err := netip.ParsePrefix(block.CIDR)
	if err != nil {
		return nil, fmt.Errorf("reading a range of addresses: %w", err)
	}
	if !prefix.Addr().Is4() {
		return nil, nil
	}
	match := d.peerSide + " " + prefix.Masked().String()
	var excepted []string
	for _, except := range block.Except {
		prefix, err := netip.ParsePrefix(except)
		if err != nil {
			return nil, fmt.Errorf("reading an excepted range of addresses: %w", err)
		}
		excepted = append(excepted, prefix.Masked().String())
	}
	for _, except := range excepted { // ranges may overlap, which a set of nft may not
		match = join(match, d.peerSide+" != "+except)
	}
	return []string{match}, nil
}

// portMatches returns matches of the protocol and the port that is asked for. No
// ports in a rule means every protocol and port.
func portMatches(ports []networkingv1.NetworkPolicyPort, p pod, d direction) ([]string, error) {
	if len(ports) == 0 {
		return []string{anything}, nil
	}
	var matches []string
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		name := strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			matches = append(matches, "meta l4proto "+name)
		case port.Port.Type == intstr.Int && port.EndPort != nil:
			matches = append(matches, fmt.Sprintf("%s dport %d-%d", name, port.Port.IntVal, *port.EndPort))
		case port.Port.Type == intstr.Int:
			matches = append(matches, fmt.Sprintf("%s dport %d", name, port.Port.IntVal))
		case d.kind == networkingv1.PolicyTypeEgress:
			return nil, errors.New("port " + port.Port.StrVal + " is a name, which egress rules do not support here")
		default:
			for _, own := range p.ports {
				if own.Name == port.Port.StrVal && (own.Protocol == protocol || own.Protocol == "") {
					matches = append(matches, fmt.Sprintf("%s dport %d", name, own.ContainerPort))
				}
			}
		}
	}
	return matches, nil
}

func setOf(elements []string) string { return "{ " + strings.Join(elements, ", ") + " }" }

func join(a, b string) string { return strings.TrimSpace(a + " " + b) }
