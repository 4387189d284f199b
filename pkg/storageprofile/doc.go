// Package storageprofile keeps one StorageProfile for each StorageClass: which access modes and volume modes
// suit a virtual machine's disk there. What an operator writes into its spec wins over what is known of the
// class's driver. Golden claims, DataVolumes and KubeVirt read it.
package storageprofile
