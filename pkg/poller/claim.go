package poller

import (
	"cmp"
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// defaultServiceAccount is the one of crons that name none, as in CDI.
const defaultServiceAccount = "default"

// findClaim reads the claim that is the source: a new one of its name is a new revision. One in
// another namespace must be open to the cron's service account.
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

// authorize asks the API server whether the cron's service account may copy a claim, by the same
// rules as CDI.
func (p *poller) authorize(ctx context.Context, cron *cdiv1.DataImportCron, claim types.NamespacedName) error {
	account := defaultServiceAccount
	if cron.Spec.ServiceAccountName != nil {
		account = cmp.Or(*cron.Spec.ServiceAccountName, account)
	}
	ask := func(review *authorizationv1.SubjectAccessReview) (*authorizationv1.SubjectAccessReview, error) {
		return review, p.client.Create(ctx, review)
	}
	allowed, why, err := cdiv1.CanServiceAccountClonePVC(ask, claim.Namespace, claim.Name, cron.Namespace, account)
	switch {
	case err != nil:
		return fmt.Errorf("asking whether service account %s may copy claim %s: %w", account, claim, err)
	case !allowed:
		return hopeless(reasonNotAuthorized, "service account %s/%s may not copy claim %s: %s: give it create on datavolumes/source (cdi.kubevirt.io) in namespace %s",
			cron.Namespace, account, claim, why, claim.Namespace)
	}
	return nil
}
