package populator

import (
	"context"
	"errors"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// sweepExports removes the exports of imports that are gone or have ended, in whatever namespace they are: an import
// does not wait for ever until the node of its exporter answers. The NetworkPolicy is the first that there is of an
// export, and the last that goes.
func (s *sweeper) sweepExports(ctx context.Context) error {
	var policies networkingv1.NetworkPolicyList
	if err := s.live.List(ctx, &policies, client.MatchingLabels{labelManagedBy: managedByPopulator, labelComponent: componentExporter}); err != nil {
		return fmt.Errorf("listing the NetworkPolicies of exports: %w", err)
	}
	if len(policies.Items) == 0 {
		return nil
	}
	var imports v1alpha1.VMDiskImportList
	if err := s.live.List(ctx, &imports); err != nil {
		return fmt.Errorf("listing the imports that read exports: %w", err)
	}
	alive := map[types.UID]bool{}
	for i := range imports.Items {
		alive[imports.Items[i].UID] = !ended(&imports.Items[i])
	}
	var failed []error
	for i := range policies.Items {
		policy := &policies.Items[i]
		id := policy.Labels[labelImportUID]
		if id == "" || alive[types.UID(id)] {
			continue
		}
		_, err := s.exports.Clear(ctx, policy.Namespace, id)
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}
