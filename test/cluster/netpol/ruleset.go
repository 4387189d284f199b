package main

import (
	"strings"

	"sigs.k8s.io/knftables"
)

// Chains of the table. Packets between pods and the world, and between two pods,
// are forwarded; packets to this host are its input. What the host sends to a
// pod passes neither: the kubelet's probes are always allowed, as Kubernetes says.
const (
	forwardChain = "forward"
	inputChain   = "input"
	egressMap    = "egress"
	ingressMap   = "ingress"
)

// write adds the whole table to a transaction, in place of what was there. The
// kernel switches from the old to the new in one step.
func write(tx *knftables.Transaction, bridge string, isolated []isolation) {
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{Comment: knftables.PtrTo("NetworkPolicies of the Gild test cluster")})
	for _, name := range []string{egressMap, ingressMap} {
		tx.Add(&knftables.Map{Name: name, Type: "ipv4_addr : verdict"})
	}
	for _, base := range []struct {
		name string
		hook knftables.BaseChainHook
	}{{forwardChain, knftables.ForwardHook}, {inputChain, knftables.InputHook}} {
		tx.Add(&knftables.Chain{
			Name: base.name, Type: knftables.PtrTo(knftables.FilterType), Hook: knftables.PtrTo(base.hook),
			Priority: knftables.PtrTo(knftables.FilterPriority),
		})
		add(tx, base.name, "ct state established,related accept")
		add(tx, base.name, "iifname", bridge, "meta nfproto ipv6 drop")
		add(tx, base.name, "ip saddr vmap", "@"+egressMap)
	}
	add(tx, forwardChain, "ip daddr vmap", "@"+ingressMap)
	for _, one := range isolated {
		isolate(tx, egressMap, one.pod, one.egress)
		isolate(tx, ingressMap, one.pod, one.ingress)
	}
}

// isolate adds a chain that lets pass what a pod may do in one direction and
// drops the rest.
func isolate(tx *knftables.Transaction, direction string, p pod, may *allowed) {
	if may == nil {
		return
	}
	chain := direction + "-" + p.uid
	tx.Add(&knftables.Chain{Name: chain, Comment: knftables.PtrTo(p.namespace + "/" + p.name)})
	for _, match := range may.matches {
		add(tx, chain, match, "return")
	}
	add(tx, chain, "drop")
	tx.Add(&knftables.Element{Map: direction, Key: []string{p.address.String()}, Value: []string{"jump " + chain}})
}

func add(tx *knftables.Transaction, chain string, words ...string) {
	tx.Add(&knftables.Rule{Chain: chain, Rule: strings.TrimSpace(strings.Join(words, " "))})
}
