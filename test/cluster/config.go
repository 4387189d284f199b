package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"text/template"
)

//go:embed config manifests
var embedded embed.FS

// id names what is not below the cluster's folder: the control group of its pods
// and, in files of CNI, their network. It is made from the folder, so that those of
// a cluster in another folder are never touched.
func (c *cluster) id() string {
	return fmt.Sprintf("gild-test-%x", sha256.Sum256([]byte(c.cluster)))[:20]
}

// settingsFile is a configuration file of a program: a template and where it goes.
type settingsFile struct{ template, target string }

func settingsFiles() []settingsFile {
	return []settingsFile{
		{"config/containerd.toml", "containerd/config.toml"},
		{"config/10-gild.conflist", "cni/10-gild.conflist"},
		{"config/kubelet.yaml", "kubelet.yaml"},
		{"manifests/dns.yaml", "manifests/dns.yaml"},
		{"manifests/storage.yaml", "manifests/storage.yaml"},
	}
}

// values fill the templates.
type values struct {
	Folder, NodeName, NodeIP, PodNetwork, Bridge, NetworkName, ClusterDomain, DNSIP string
	PauseImage, DNSImage, ShimBinary, RuncBinary, ControlGroup                      string
	Driver, PlainDriver, PolicySocket                                               string
}

// writeConfig writes the configuration files below the cluster's folder.
func (c *cluster) writeConfig() error {
	shim, err := c.binary("containerd-shim-runc-v2")
	if err != nil {
		return err
	}
	runc, err := c.binary("runc")
	if err != nil {
		return err
	}
	v := values{
		Folder: c.cluster, NodeName: nodeName, NodeIP: nodeIP, PodNetwork: podNetwork, Bridge: bridge,
		NetworkName: c.id(), ClusterDomain: clusterDomain, DNSIP: dnsIP, PauseImage: pauseImage, DNSImage: dnsImage,
		ShimBinary: shim, RuncBinary: runc, ControlGroup: c.id(), Driver: driverName, PlainDriver: plainDriverName,
		PolicySocket: c.path(policySocket),
	}
	for _, file := range settingsFiles() {
		content, err := render(file.template, v)
		if err != nil {
			return err
		}
		target := c.path(file.target)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("making the folder of %s: %w", file.target, err)
		}
		if err := os.WriteFile(target, content, 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", file.target, err)
		}
	}
	return nil
}

func render(name string, v values) ([]byte, error) {
	parsed, err := template.New(path.Base(name)).Option("missingkey=error").ParseFS(embedded, name)
	if err != nil {
		return nil, fmt.Errorf("reading the template %s: %w", name, err)
	}
	var content bytes.Buffer
	if err := parsed.Execute(&content, v); err != nil {
		return nil, fmt.Errorf("filling the template %s: %w", name, err)
	}
	return content.Bytes(), nil
}

// linkPrograms puts a link to every built program into the folder bin of the
// cluster: kubectl for people, the others to look at.
func (c *cluster) linkPrograms() error {
	folder := c.path("bin")
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("removing old links: %w", err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making a folder for links: %w", err)
	}
	for _, g := range groups() {
		built, err := c.groupDir(g)
		if err != nil {
			return err
		}
		for _, p := range g.programs {
			if err := os.Symlink(filepath.Join(built, p.name), filepath.Join(folder, p.name)); err != nil {
				return fmt.Errorf("linking %s: %w", p.name, err)
			}
		}
	}
	return nil
}
