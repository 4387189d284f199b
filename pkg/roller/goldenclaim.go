package roller

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// goldenClaim is a golden claim of a cron, as it is seen.
type goldenClaim struct {
	*corev1.PersistentVolumeClaim
	revision *golden.Revision
	// imp is the import that fills it; nil while there is none of its own.
	imp *v1alpha1.VMDiskImport
	// handedOver says that its volume tells that it was filled for it, by an import which is gone.
	handedOver bool
}

// going reports whether the claim is being deleted.
func (c *goldenClaim) going() bool { return !c.DeletionTimestamp.IsZero() }

// verified reports whether the claim was once seen to hold its revision.
func (c *goldenClaim) verified() bool { return c.Annotations[golden.AnnotationVerified] != "" }

// adopted reports whether CDI has made the claim, and we keep it as ours.
func (c *goldenClaim) adopted() bool {
	return c.Annotations[golden.AnnotationVerified] == golden.FilledByCDI
}

// good reports whether the claim holds its revision and stays.
func (c *goldenClaim) good() bool {
	return c.verified() && c.Status.Phase == corev1.ClaimBound && !c.going()
}

// worthless reports whether the claim will never be good: its volume is lost.
func (c *goldenClaim) worthless() bool {
	return c.Status.Phase == corev1.ClaimLost
}

// result is the digest of what the claim was filled with, "true" when none was computed; ok is
// false until it is bound to the very volume that its import has filled.
func (c *goldenClaim) result() (digest string, ok bool) {
	switch {
	case c.Status.Phase != corev1.ClaimBound || c.going():
		return "", false
	case c.handedOver:
		return unknownDigest, true
	case c.imp == nil || c.imp.Status.Phase != v1alpha1.PhaseSucceeded || c.imp.Status.VolumeName != c.Spec.VolumeName:
		return "", false
	case c.imp.Status.Result == nil || c.imp.Status.Result.Digest == "":
		return unknownDigest, true
	}
	return c.imp.Status.Result.Digest, true
}

// unknownDigest stands for a digest that nobody has computed.
const unknownDigest = "true"

// class is the StorageClass of the claim.
func (c *goldenClaim) class() string {
	if c.Spec.StorageClassName == nil {
		return ""
	}
	return *c.Spec.StorageClassName
}

// with is the claim with annotations.
func (c *goldenClaim) with(annotations map[string]string) *corev1.PersistentVolumeClaim {
	claim := c.DeepCopy()
	for key, value := range annotations {
		metav1.SetMetaDataAnnotation(&claim.ObjectMeta, key, value)
	}
	return claim
}

// failed reports whether the import of the claim has given up.
func (c *goldenClaim) failed() bool {
	return c.imp != nil && c.imp.DeletionTimestamp.IsZero() && c.imp.Status.Phase == v1alpha1.PhaseFailed
}

// says is what the import says of itself: the reason and the message of its Ready condition.
func (c *goldenClaim) says() (reason, message string) {
	if c.imp == nil {
		return "", ""
	}
	ready := meta.FindStatusCondition(c.imp.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return "", ""
	}
	return ready.Reason, ready.Message
}
