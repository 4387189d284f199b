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
	// tableName is the nftables table that masquerades what pods send elsewhere.
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
		if err := c.makeBridge(ctx); err != nil {
			return err
		}
	}
	if err := c.setKernel(settings()); err != nil {
		return err
	}
	ruleset := fmt.Sprintf(`table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[2]s ip daddr != %[2]s oifname != %[3]q masquerade
	}
}
`, tableName, podNetwork, bridge)
	_, err := tool{path: "nft", args: []string{"-f", "-"}, stdin: ruleset}.output(ctx)
	return err
}

func (c *cluster) makeBridge(ctx context.Context) error {
	if err := unrouted(podNetwork, serviceRange); err != nil {
		return err
	}
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

// networkDown removes the bridge and every table the cluster made.
func (c *cluster) networkDown(ctx context.Context) error {
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
	return errors.Join(append(failures, c.restoreKernel())...)
}

// setKernel changes kernel settings and records what they were, once.
func (c *cluster) setKernel(wanted map[string]string) error {
	before := map[string]string{}
	for name, value := range wanted {
		file := filepath.Join(sysctlDir, name)
		old, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a kernel setting: %w", err)
		}
		before[name] = strings.TrimSpace(string(old))
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return fmt.Errorf("changing a kernel setting: %w", err)
		}
	}
	if _, err := os.Stat(c.kernelRecord()); err == nil {
		return nil
	}
	content, err := json.Marshal(before)
	if err != nil {
		return fmt.Errorf("recording kernel settings: %w", err)
	}
	return os.WriteFile(c.kernelRecord(), content, 0o644)
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
