// Package datavolume serves KubeVirt's DataVolumes: each gets a claim of its name with a dataSourceRef, and
// the VMDiskImage or DataSource that this refers to. The disk itself is brought as to any claim; the status
// of the DataVolume mirrors that of the claim and its VMDiskImport, spelled as KubeVirt reads it.
package datavolume
