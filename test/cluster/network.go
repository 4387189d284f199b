package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	// tableName is the nftables table that masquerades what pods send elsewhere, and drops what kube-proxy has not yet
	// sent on to a pod: in the second after a Service is made a machine's network would answer in its place.
	tableName = "gild-cluster"
	sysctlDir = "/proc/sys"
)

// settings are the kernel settings a node needs, as files below sysctlDir.
func settings() map[string]string {
	return map[string]string{
		"net/ipv4/ip_forward": "1",
		// Pods share a bridge. Services and network policies see what passes
		// between two of them only with this.
		"net/bridge/bridge-nf-call-iptables": "1",
	}
}

// networkUp makes the bridge of the pods and what lets them reach the world.
func (c *cluster) networkUp(ctx context.Context) error {
	for _, module := range []string{"bridge", "br_netfilter", "overlay", "loop", "veth", "nf_conntrack"} {
		// A module that is built into the kernel cannot be loaded; what needs it says so if it is missing.
		_ = exec.CommandContext(ctx, "modprobe", module).Run()
	}
	if _, err := net.InterfaceByName(bridge); err != nil {
		if err := unrouted(podNetwork, serviceRange); err != nil {
			return err
		}
	}
	if err := c.setKernel(settings()); err != nil {
		return err
	}
	if _, err := net.InterfaceByName(bridge); err != nil {
		if err := makeBridge(ctx); err != nil {
			return err
		}
	}
	ruleset := fmt.Sprintf(`table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[2]s ip daddr != %[2]s oifname != %[3]q masquerade
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip daddr %[4]s drop
	}
	chain output {
		type filter hook output priority filter; policy accept;
		ip daddr %[4]s drop
	}
}
`, tableName, podNetwork, bridge, serviceRange)
	_, err := tool{path: "nft", args: []string{"-f", "-"}, stdin: ruleset}.output(ctx)
	return err
}

func makeBridge(ctx context.Context) error {
	_, pods, err := net.ParseCIDR(podNetwork)
	if err != nil {
		return fmt.Errorf("reading the pods' network: %w", err)
	}
	size, _ := pods.Mask.Size()
	for _, args := range [][]string{
		{"link", "add", bridge, "type", "bridge"},
		{"address", "add", fmt.Sprintf("%s/%d", nodeIP, size), "dev", bridge},
		{"link", "set", bridge, "up"},
	} {
		if _, err := (tool{path: "ip", args: args}).output(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unrouted refuses networks that overlap one of this machine's own.
func unrouted(networks ...string) error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("listing this machine's networks: %w", err)
	}
	for _, network := range networks {
		_, ours, err := net.ParseCIDR(network)
		if err != nil {
			return fmt.Errorf("reading a network of the cluster: %w", err)
		}
		for _, address := range addresses {
			own, isNetwork := address.(*net.IPNet)
			if isNetwork && (ours.Contains(own.IP) || own.Contains(ours.IP)) {
				return fmt.Errorf("this machine already has the network %s, which overlaps the cluster's %s", own, network)
			}
		}
	}
	return nil
}

// networkDown removes the bridge and every table the cluster made. Without the
// record that networkUp begins with, they belong to a cluster in another folder.
func (c *cluster) networkDown(ctx context.Context) error {
	if _, err := os.Stat(c.kernelRecord()); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var failures []error
	if _, err := net.InterfaceByName(bridge); err == nil {
		_, err := tool{path: "ip", args: []string{"link", "delete", bridge}}.output(ctx)
		failures = append(failures, err)
	}
	for _, table := range []string{"ip " + tableName, "ip kube-proxy", "ip6 kube-proxy", "inet " + policyTable} {
		// Adding a table that exists changes nothing, so this removes it in both cases.
		ruleset := fmt.Sprintf("table %[1]s\ndelete table %[1]s\n", table)
		_, err := tool{path: "nft", args: []string{"-f", "-"}, stdin: ruleset}.output(ctx)
		failures = append(failures, err)
	}
	return errors.Join(append(failures, removeNetworkRecords(c.id()), c.restoreKernel())...)
}

// setKernel records kernel settings, once, and changes them.
func (c *cluster) setKernel(wanted map[string]string) error {
	before := map[string]string{}
	for name := range wanted {
		old, err := os.ReadFile(filepath.Join(sysctlDir, name))
		if err != nil {
			return fmt.Errorf("reading a kernel setting: %w", err)
		}
		before[name] = strings.TrimSpace(string(old))
	}
	if _, err := os.Stat(c.kernelRecord()); errors.Is(err, os.ErrNotExist) {
		content, err := json.Marshal(before)
		if err != nil {
			return fmt.Errorf("recording kernel settings: %w", err)
		}
		if err := os.WriteFile(c.kernelRecord(), content, 0o644); err != nil {
			return fmt.Errorf("recording kernel settings: %w", err)
		}
	}
	for name, value := range wanted {
		if err := os.WriteFile(filepath.Join(sysctlDir, name), []byte(value), 0o644); err != nil {
			return fmt.Errorf("changing a kernel setting: %w", err)
		}
	}
	return nil
}

// restoreKernel puts the recorded settings back.
func (c *cluster) restoreKernel() error {
	content, err := os.ReadFile(c.kernelRecord())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the recorded kernel settings: %w", err)
	}
	var before map[string]string
	if err := json.Unmarshal(content, &before); err != nil {
		return fmt.Errorf("reading the recorded kernel settings: %w", err)
	}
	for name, value := range before {
		if err := os.WriteFile(filepath.Join(sysctlDir, name), []byte(value), 0o644); err != nil {
			return fmt.Errorf("restoring a kernel setting: %w", err)
		}
	}
	return nil
}

func (c *cluster) kernelRecord() string { return c.path("kernel-settings.json") }
