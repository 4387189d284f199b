// Package cdiconfig keeps the one CDIConfig of a cluster, which KubeVirt reads: what file systems need around a
// disk, for each StorageClass.
package cdiconfig
