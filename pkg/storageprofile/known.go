package storageprofile

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
)

// sets are the claim property sets of a driver, the best one for a machine's disk first: one that many nodes
// can use lets the machine move between them, and a device has no file system in the way.
type sets []cdiv1.ClaimPropertySet

func one(access corev1.PersistentVolumeAccessMode, mode corev1.PersistentVolumeMode) cdiv1.ClaimPropertySet {
	return cdiv1.ClaimPropertySet{AccessModes: []corev1.PersistentVolumeAccessMode{access}, VolumeMode: &mode}
}

// shared is a file system that many nodes can use.
func shared() sets {
	return sets{one(corev1.ReadWriteMany, corev1.PersistentVolumeFilesystem), one(corev1.ReadWriteOnce, corev1.PersistentVolumeFilesystem)}
}

// local is a file system of one node at a time.
func local() sets { return sets{one(corev1.ReadWriteOnce, corev1.PersistentVolumeFilesystem)} }

// attached is a device of one node at a time.
func attached() sets {
	return sets{one(corev1.ReadWriteOnce, corev1.PersistentVolumeBlock), one(corev1.ReadWriteOnce, corev1.PersistentVolumeFilesystem)}
}

// multiAttached is a device that many nodes can use at a time, with a file system for one of them.
func multiAttached() sets {
	return append(sets{one(corev1.ReadWriteMany, corev1.PersistentVolumeBlock)}, attached()...)
}

// setsOf are the sets of the driver of a StorageClass, as its own documentation has them; nil when nothing is
// known of it.
func setsOf(class *storagev1.StorageClass) sets {
	switch provisioner := class.Provisioner; {
	case strings.HasSuffix(provisioner, "rbd.csi.ceph.com"): // Rook puts its namespace before the name
		return multiAttached()
	case strings.HasSuffix(provisioner, "cephfs.csi.ceph.com"):
		return shared()
	}
	switch class.Provisioner {
	case "linstor.csi.linbit.com":
		return multiAttached()
	case "driver.longhorn.io":
		if class.Parameters["migratable"] == "true" {
			return multiAttached()
		}
		return attached()
	case "csi.trident.netapp.io":
		switch backend := class.Parameters["backendType"]; {
		case strings.HasPrefix(backend, "ontap-san"):
			return multiAttached()
		case strings.HasPrefix(backend, "ontap-nas"):
			return shared()
		}
		return nil
	case "ebs.csi.aws.com", "disk.csi.azure.com", "pd.csi.storage.gke.io", "cinder.csi.openstack.org", "csi.vsphere.vmware.com",
		"topolvm.io", "topolvm.cybozu.com", "local.csi.openebs.io", "zfs.csi.openebs.io":
		return attached()
	case "nfs.csi.k8s.io", "efs.csi.aws.com", "file.csi.azure.com", "filestore.csi.storage.gke.io", "manila.csi.openstack.org":
		return shared()
	case "kubevirt.io.hostpath-provisioner", "rancher.io/local-path", "k8s.io/minikube-hostpath":
		return local()
	}
	return nil
}
