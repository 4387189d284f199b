package roller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// seeImport reads the import of a claim that is not verified yet.
func (o *observer) seeImport(ctx context.Context, claim *goldenClaim) error {
	if claim.verified() {
		return nil
	}
	imp, err := readImport(ctx, o.cache, claim)
	if err != nil {
		return err
	}
	claim.imp = imp
	if _, filled := claim.result(); filled || claim.Status.Phase != corev1.ClaimBound {
		return nil
	}
	// It is bound, but not by its import as far as we see: now the record itself decides.
	if claim.imp, err = readImport(ctx, o.live, claim); err != nil || claim.imp != nil {
		return err
	}
	pv := &corev1.PersistentVolume{}
	if err := o.live.Get(ctx, types.NamespacedName{Name: claim.Spec.VolumeName}, pv); err != nil {
		return wrap(client.IgnoreNotFound(err), "reading the volume of %s", claim.Name)
	}
	claim.handedOver = golden.IsHandedOver(pv, claim.PersistentVolumeClaim)
	return nil
}

// readImport reads the import of this very claim from its cron; nil when there is none.
func readImport(ctx context.Context, reader client.Reader, claim *goldenClaim) (*v1alpha1.VMDiskImport, error) {
	imp := &v1alpha1.VMDiskImport{}
	if err := reader.Get(ctx, client.ObjectKeyFromObject(claim), imp); err != nil {
		return nil, wrap(client.IgnoreNotFound(err), "reading the import of %s", claim.Name)
	}
	of := imp.Spec.ImageRef
	if imp.Spec.ClaimRef.UID != claim.UID || !metav1.IsControlledBy(imp, claim) || of.Kind != golden.CronKind || of.Name != claim.Labels[golden.LabelCron] {
		return nil, nil
	}
	return imp, nil
}
