package datavolume

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Reasons of conditions and events while a DataVolume does not get on. The first ones are CDI's, and
// KubeVirt reads the one of quotas.
const (
	reasonNotFound           = "NotFound"
	reasonExists             = "ErrResourceExists"
	reasonMarkedForDeletion  = "ErrResourceMarkedForDeletion"
	reasonExceededQuota      = "ErrExceededQuota"
	reasonClaimNotValid      = "ErrClaimNotValid"
	reasonClaimLost          = "ClaimLost"
	reasonNoClass            = "StorageClassNotFound"
	reasonNoSize             = "SizeUnknown"
	reasonSourceNotReady     = "SourceNotReady"
	reasonNotGranted         = "NotGranted"
	reasonBoundToForeign     = "BoundToForeignVolume"
	reasonInterrupted        = "LeftByCDI"
	reasonWaiting            = "ImportWaiting"
	messageNoClaim           = "No PVC found"
	messageMarkedForDeletion = "Resource %q marked for deletion"
	messageExists            = "Resource %q already exists and is not managed by DataVolume"
)

// inTheWay says that the claim's name is taken.
func inTheWay(claim *corev1.PersistentVolumeClaim) *trouble {
	return &trouble{reason: reasonExists, message: fmt.Sprintf(messageExists+": delete that claim, or give the DataVolume another name", claim.Name)}
}

// taken says that the name of something else that the DataVolume needs is taken.
func taken(kind, name string) *trouble {
	return &trouble{reason: reasonExists, message: fmt.Sprintf("%s %q already exists and was not made for this DataVolume: delete it, or give the DataVolume another name", kind, name)}
}

// leaving says that what bears the name is on its way out.
func leaving(kind, name string) *trouble {
	return &trouble{reason: reasonMarkedForDeletion, message: kind + ": " + fmt.Sprintf(messageMarkedForDeletion, name), silent: true}
}

// noClass says that there is no StorageClass for the claim.
func noClass(name string) *trouble {
	if name == "" {
		return &trouble{reason: reasonNoClass, message: "there is no default StorageClass, and the DataVolume names none: name one, or mark a default"}
	}
	return &trouble{reason: reasonNoClass, message: fmt.Sprintf("StorageClass %s does not exist: create it, the DataVolume goes on by itself", name)}
}

// refused says why the API server does not take a claim; nil when that is no answer of its own.
func refused(err error) *trouble {
	switch {
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota"):
		return &trouble{reason: reasonExceededQuota, message: err.Error()}
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		return &trouble{reason: reasonClaimNotValid, message: err.Error()}
	}
	return nil
}
