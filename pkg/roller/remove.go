package roller

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/golden"
)

// remove deletes a golden claim that was good. One that CDI has made goes with the DataVolume that CDI has made for it,
// which would have it made and filled anew. done is false when that DataVolume is somebody's.
func (c *controller) remove(ctx context.Context, cron string, claim *goldenClaim) (done bool, err error) {
	if !claim.adopted() {
		return true, c.delete(ctx, claim.PersistentVolumeClaim)
	}
	// The cache does not know to whom a claim belongs.
	whole := &corev1.PersistentVolumeClaim{}
	if err := c.live.Get(ctx, client.ObjectKeyFromObject(claim), whole); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	if whole.ResourceVersion != claim.ResourceVersion {
		return false, apierrors.NewConflict(corev1.Resource("persistentvolumeclaims"), claim.Name, errors.New("it has changed since it was seen"))
	}
	owner := dataVolumeOf(whole)
	if owner == nil {
		return true, c.delete(ctx, claim.PersistentVolumeClaim)
	}
	volume := &cdiv1.DataVolume{}
	err = c.live.Get(ctx, types.NamespacedName{Namespace: claim.Namespace, Name: owner.Name}, volume)
	switch {
	case apierrors.IsNotFound(err), err == nil && volume.UID != owner.UID:
		return true, c.delete(ctx, claim.PersistentVolumeClaim)
	case err != nil:
		return false, fmt.Errorf("reading DataVolume %s: %w", owner.Name, err)
	case volume.Labels[golden.LabelCron] != cron:
		return false, nil
	}
	return true, client.IgnoreNotFound(c.client.Delete(ctx, volume, client.Preconditions{UID: &volume.UID}))
}
