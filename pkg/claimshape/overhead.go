package claimshape

import (
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// ConfigName is the name of the one CDIConfig of a cluster.
const ConfigName = "config"

// Overhead is what a file system needs around a disk, in thousandths of the size of the disk.
type Overhead int64

const (
	// DefaultOverhead is CDI's: 6 %.
	DefaultOverhead Overhead = 60
	// whole is all of the disk again.
	whole Overhead = 1000
	// unit is what sizes are rounded up to.
	unit = 1 << 20
)

// OverheadFor is what the CDIConfig of a cluster, which may be nil, wants for a StorageClass. What cannot be
// read counts as not said.
func OverheadFor(config *cdiv1.CDIConfig, class string) Overhead {
	if config == nil || config.Spec.FilesystemOverhead == nil {
		return DefaultOverhead
	}
	for _, percent := range []cdiv1.Percent{config.Spec.FilesystemOverhead.StorageClass[class], config.Spec.FilesystemOverhead.Global} {
		if part, err := strconv.ParseFloat(string(percent), 64); err == nil && part >= 0 && part <= 1 {
			return Overhead(part*float64(whole) + 0.5)
		}
	}
	return DefaultOverhead
}

// Percent is the overhead as a CDIConfig spells it, such as 0.06.
func (o Overhead) Percent() cdiv1.Percent {
	return cdiv1.Percent(strconv.FormatFloat(float64(o)/float64(whole), 'f', -1, 64))
}

// Around is the size of a volume whose file system holds a disk of a size, in whole MiB.
func (o Overhead) Around(disk resource.Quantity) resource.Quantity {
	bytes := disk.Value()
	bytes += bytes/int64(whole)*int64(o) + (bytes%int64(whole)*int64(o)+int64(whole)-1)/int64(whole)
	return *resource.NewQuantity((bytes+unit-1)/unit*unit, resource.BinarySI)
}

// Within is the largest disk, in whole MiB, that a file system on a volume of a size holds.
func (o Overhead) Within(volume resource.Quantity) resource.Quantity {
	bytes := volume.Value()
	part := int64(whole + o)
	bytes = bytes/part*int64(whole) + bytes%part*int64(whole)/part
	return *resource.NewQuantity(bytes/unit*unit, resource.BinarySI)
}
