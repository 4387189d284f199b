package main

import (
	"context"

	"github.com/gild-project/gild/test/cluster/daemon"
)

const (
	// policyTable is the nftables table of the network policies.
	policyTable  = "gild-netpol"
	policySocket = "netpol.sock"
)

// component is a process of the cluster.
type component struct {
	name    string
	program string // the built program; the name if empty
	args    []string
	// before makes what the process needs of the others; nil is nothing.
	before func(ctx context.Context) error
	// ready says whether it does its work; nil means as soon as it runs.
	ready func(ctx context.Context) error
}

// components lists the processes in the order they are started; they are stopped
// in reverse order.
func (c *cluster) components() []component {
	pki := func(name string) string { return c.path("pki", name) }
	return append([]component{
		{name: "registry", args: []string{"--address=" + registryAddress, "--folder=" + c.path("registry")},
			program: "cluster-registry", ready: answersHTTP("http://" + registryAddress + "/v2/")},
		c.etcd(etcdAddress, etcdPeerAddress),
		{name: "containerd", args: []string{"--config=" + c.path("containerd/config.toml")},
			ready: acceptsUnix(c.path("containerd/containerd.sock"))},
		c.apiServer(etcdAddress, nodeIP, apiPort,
			"--kubelet-preferred-address-types=InternalIP",
			"--kubelet-certificate-authority="+pki("ca.crt"),
			"--kubelet-client-certificate="+pki("apiserver-to-kubelet.crt"),
			"--kubelet-client-key="+pki("apiserver-to-kubelet.key"),
			"--allow-privileged=true",
		),
		{name: "kube-controller-manager", args: []string{
			"--kubeconfig=" + pki("controller-manager.conf"), "--leader-elect=false", "--bind-address=127.0.0.1",
			"--cert-dir=" + c.path("controller-manager"),
			"--service-account-private-key-file=" + pki("tokens.key"), "--root-ca-file=" + pki("ca.crt"),
			"--use-service-account-credentials", "--allocate-node-cidrs", "--cluster-cidr=" + podNetwork, "--node-cidr-mask-size=24",
			// Who fills a volume and hands it over waits until its own claim is seen to have lost it: that is looked at this often,
			// by default each 15 s.
			"--pvclaimbinder-sync-period=2s", "--kube-api-qps=50", "--kube-api-burst=100",
		}},
		{name: "kube-scheduler", args: []string{
			"--kubeconfig=" + pki("scheduler.conf"), "--leader-elect=false", "--bind-address=127.0.0.1",
			"--cert-dir=" + c.path("scheduler"),
		}},
		// Before the kubelet: pods start only when the engine has heard of them.
		{name: "netpol", program: "cluster-netpol", args: []string{
			"--kubeconfig=" + pki("network-policy.conf"), "--bridge=" + bridge, "--table=" + policyTable, "--socket=" + c.path(policySocket),
		}, ready: acceptsUnix(c.path(policySocket))},
		{name: "kubelet", args: []string{
			"--config=" + c.path("kubelet.yaml"), "--kubeconfig=" + pki("kubelet.conf"), "--root-dir=" + c.path("kubelet"),
			"--hostname-override=" + nodeName, "--node-ip=" + nodeIP,
		}, ready: answersHTTP("http://" + kubeletHealthAddress + "/healthz")},
		{name: "kube-proxy", args: []string{
			"--kubeconfig=" + pki("proxy.conf"), "--proxy-mode=nftables", "--hostname-override=" + nodeName,
			"--cluster-cidr=" + podNetwork, "--nodeport-addresses=primary",
			"--healthz-bind-address=" + proxyHealthAddress, "--metrics-bind-address=" + proxyMetricsAddress,
			// The machine's own limits and timeouts of connection tracking stay as they are.
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s", "--conntrack-tcp-timeout-close-wait=0s",
			"--oom-score-adj=0",
		}, ready: answersHTTP("http://" + proxyHealthAddress + "/healthz")},
	}, c.storage()...)
}

// etcd keeps what the API server stores, for as long as the cluster lives.
func (c *cluster) etcd(address, peerAddress string) component {
	return component{name: "etcd", args: []string{
		"--data-dir=" + c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://" + address, "--advertise-client-urls=http://" + address,
		"--listen-peer-urls=http://" + peerAddress,
		"--initial-advertise-peer-urls=http://" + peerAddress, "--initial-cluster=default=http://" + peerAddress,
	}, ready: answersHTTP("http://" + address + "/health")}
}

// apiServer is the API server on an address of this machine, with more arguments.
func (c *cluster) apiServer(etcd, ip, port string, more ...string) component {
	pki := func(name string) string { return c.path("pki", name) }
	return component{name: "kube-apiserver", args: append([]string{
		"--etcd-servers=http://" + etcd,
		"--bind-address=" + ip, "--advertise-address=" + ip, "--secure-port=" + port,
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
		"--service-account-key-file=" + pki("tokens.pub"), "--service-account-signing-key-file=" + pki("tokens.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=" + serviceRange,
		"--cert-dir=" + c.path("apiserver"),
		// No request outlives the server for long, and none is on a production machine.
		"--shutdown-delay-duration=0s",
	}, more...), ready: c.apiServerReady}
}

// command returns how the component is started.
func (c *cluster) command(p component) (daemon.Command, error) {
	program := p.program
	if program == "" {
		program = p.name
	}
	path, err := c.binary(program)
	return daemon.Command{Name: p.name, Path: path, Args: p.args}, err
}
