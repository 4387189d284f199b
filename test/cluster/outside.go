package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Folders outside the cluster's that its programs write into and have no
// setting for.
const (
	logLinkDir       = "/var/log/containers"  // the kubelet's links to the logs of containers
	networkRecordDir = "/var/lib/cni/results" // what CNI plugins did for each container
)

// removeLogLinks removes the kubelet's links to logs below folder.
func removeLogLinks(folder string) error {
	links, err := filepath.Glob(filepath.Join(logLinkDir, "*.log"))
	if err != nil {
		return fmt.Errorf("listing log links: %w", err)
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, folder+"/") {
			continue
		}
		if err := os.Remove(link); err != nil {
			return fmt.Errorf("removing a log link: %w", err)
		}
	}
	return nil
}

// removeNetworkRecords removes the records of containers on a network. Each has one
// for the network, NETWORK-CONTAINER-INTERFACE, and one for its loopback.
func removeNetworkRecords(network string) error {
	records, err := filepath.Glob(filepath.Join(networkRecordDir, network+"-*-*"))
	if err != nil {
		return fmt.Errorf("listing network records: %w", err)
	}
	for _, record := range records {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(record), network+"-"), "-")
		more, err := filepath.Glob(filepath.Join(networkRecordDir, "*-"+id+"-*"))
		if err != nil {
			return fmt.Errorf("listing network records: %w", err)
		}
		for _, file := range more {
			if err := os.Remove(file); err != nil {
				return fmt.Errorf("removing a network record: %w", err)
			}
		}
	}
	return nil
}
