package poller

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/grant"
)

// findClaim reads the claim that is the source: a new one of its name is a new revision. One in
// another namespace must be open to the cron, or to its service account.
func (p *poller) findClaim(ctx context.Context, cron *cdiv1.DataImportCron, source *cdiv1.DataVolumeSourcePVC) (*golden.Revision, error) {
	key := types.NamespacedName{Namespace: cmp.Or(source.Namespace, cron.Namespace), Name: source.Name}
	if key.Namespace != cron.Namespace {
		if err := p.authorize(ctx, cron, key); err != nil {
			return nil, err
		}
	}
	claim := &corev1.PersistentVolumeClaim{}
	err := p.live.Get(ctx, key, claim)
	if apierrors.IsNotFound(err) {
		return nil, passing(reasonClaimNotFound, "claim %s, which is the source, does not exist: create it", key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading claim %s: %w", key, err)
	}
	return claimRevision(golden.Claim{Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID}), nil
}

// authorize asks the API server whether the cron may copy a claim of another namespace. Its import asks again.
func (p *poller) authorize(ctx context.Context, cron *cdiv1.DataImportCron, claim types.NamespacedName) error {
	by := grant.Subject{Namespace: cron.Namespace}
	if cron.Spec.ServiceAccountName != nil {
		by.ServiceAccount = *cron.Spec.ServiceAccountName
	}
	answer, err := p.grants.Check(ctx, by, grant.KindClaim, claim.Namespace, claim.Name)
	if err != nil {
		return err
	}
	if !answer.Allowed {
		return hopeless(reasonNotAuthorized, "%s", answer.Message)
	}
	return nil
}
