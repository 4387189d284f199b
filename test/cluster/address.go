package main

import (
	"fmt"
	"net"
)

// The cluster's networks. They are seldom used elsewhere; up refuses to start
// when the machine already has one that overlaps.
const (
	bridge        = "gild0"
	nodeName      = "gild-node"
	nodeIP        = "10.251.0.1"
	podNetwork    = "10.251.0.0/24"
	serviceRange  = "10.252.0.0/16"
	serviceIP     = "10.252.0.1" // of the API server
	dnsIP         = "10.252.0.10"
	clusterDomain = "cluster.local"

	apiPort         = "6443"
	apiAddress      = nodeIP + ":" + apiPort
	etcdAddress     = "127.0.0.1:23790"
	etcdPeerAddress = "127.0.0.1:23800"
	registryAddress = "127.0.0.1:5000" // loopback: containerd then speaks plain HTTP
	pauseImage      = registryAddress + "/gild-test/pause:1"
	dnsImage        = registryAddress + "/gild-test/dns:1"

	kubeletAddress          = nodeIP + ":10250"
	kubeletHealthAddress    = "127.0.0.1:10248"
	proxyHealthAddress      = "127.0.0.1:10256"
	proxyMetricsAddress     = "127.0.0.1:10249"
	controllerHealthAddress = "127.0.0.1:10257"
	schedulerHealthAddress  = "127.0.0.1:10259"
)

// addresses lists what the processes of the cluster listen on, with the name of
// the process.
func addresses() map[string]string {
	return map[string]string{
		etcdAddress: "etcd", etcdPeerAddress: "etcd", apiAddress: "kube-apiserver", registryAddress: "registry",
		kubeletAddress: "kubelet", kubeletHealthAddress: "kubelet",
		proxyHealthAddress: "kube-proxy", proxyMetricsAddress: "kube-proxy",
		controllerHealthAddress: "kube-controller-manager", schedulerHealthAddress: "kube-scheduler",
	}
}

// someAddress is a TCP address of the loopback that no process listens on.
func someAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// free says whether a process could listen on the TCP address now.
func free(address string) bool {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
