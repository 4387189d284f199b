// Package snapshot takes snapshots of claims, hands them over to another namespace, and removes
// them. It reads and writes the objects of snapshot.storage.k8s.io; the cluster's snapshot
// controller and the CSI driver do the work. Nothing is cached or watched: a cluster may lack
// these kinds, or get them later.
package snapshot
