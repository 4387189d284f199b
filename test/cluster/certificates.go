package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gild-project/gild/test/cluster/pki"
)

// masters is the group that may do everything.
const masters = "system:masters"

// servers are the certificates that serve TLS, by file name.
func servers() map[string]pki.Identity {
	return map[string]pki.Identity{
		"apiserver": {
			CommonName: "kube-apiserver",
			DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + clusterDomain},
			Addresses: []net.IP{net.ParseIP(nodeIP), net.ParseIP(serviceIP), net.IPv4(127, 0, 0, 1)},
		},
		"kubelet": {
			CommonName: "system:node:" + nodeName, Groups: []string{"system:nodes"},
			DNSNames: []string{nodeName}, Addresses: []net.IP{net.ParseIP(nodeIP)},
		},
		"apiserver-to-kubelet": {CommonName: "kube-apiserver-kubelet-client", Groups: []string{masters}},
	}
}

// clients are the users that get a kubeconfig, by file name. Kubernetes binds
// the rights of its own programs to these names.
func clients() map[string]pki.Identity {
	return map[string]pki.Identity{
		"kubeconfig":                  {CommonName: "gild-test-admin", Groups: []string{masters}},
		"pki/kubelet.conf":            {CommonName: "system:node:" + nodeName, Groups: []string{"system:nodes"}},
		"pki/controller-manager.conf": {CommonName: "system:kube-controller-manager"},
		"pki/scheduler.conf":          {CommonName: "system:kube-scheduler"},
		"pki/proxy.conf":              {CommonName: "system:kube-proxy"},
		"pki/provisioner.conf":        {CommonName: "csi-provisioner", Groups: []string{masters}},
		"pki/snapshotter.conf":        {CommonName: "csi-snapshotter", Groups: []string{masters}},
		"pki/network-policy.conf":     {CommonName: "network-policy", Groups: []string{masters}},
	}
}

// makeCertificates makes every key, certificate and kubeconfig of a new cluster
// whose API server has this address. A cluster that has them keeps them.
func (c *cluster) makeCertificates(server string) error {
	if _, err := os.Stat(c.kubeconfig()); err == nil {
		return nil
	}
	authority, err := pki.NewAuthority("gild-test-cluster", time.Now())
	if err != nil {
		return err
	}
	if err := c.writeSecret("pki/ca.crt", authority.CertificatePEM); err != nil {
		return err
	}
	private, public, err := pki.NewSigningKey()
	if err != nil {
		return err
	}
	if err := c.writeSecret("pki/tokens.key", private); err != nil {
		return err
	}
	if err := c.writeSecret("pki/tokens.pub", public); err != nil {
		return err
	}
	for name, id := range servers() {
		pair, err := authority.Issue(id)
		if err != nil {
			return err
		}
		if err := c.writeSecret("pki/"+name+".crt", pair.CertificatePEM); err != nil {
			return err
		}
		if err := c.writeSecret("pki/"+name+".key", pair.KeyPEM); err != nil {
			return err
		}
	}
	for name, id := range clients() {
		pair, err := authority.Issue(id)
		if err != nil {
			return err
		}
		config, err := pki.Kubeconfig("https://"+server, authority.CertificatePEM, pair)
		if err != nil {
			return err
		}
		if err := c.writeSecret(name, config); err != nil {
			return err
		}
	}
	return nil
}

// writeSecret writes a file below the cluster's folder that only its owner reads.
func (c *cluster) writeSecret(name string, content []byte) error {
	file := c.path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("making a folder for keys: %w", err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	return nil
}
