package populator

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/snapshot"
)

// snapshots are the VolumeSnapshots of the cluster; pkg/snapshot has them.
type snapshots interface {
	Class(ctx context.Context, driver string) (string, error)
	Look(ctx context.Context, key types.NamespacedName) (*snapshot.State, error)
	Take(ctx context.Context, key types.NamespacedName, claim, class string, labels, annotations map[string]string) error
	HandOver(ctx context.Context, from, to types.NamespacedName, labels, annotations map[string]string) error
	Remove(ctx context.Context, key types.NamespacedName) (gone bool, err error)
}

// grants say who may copy what of another namespace; pkg/grant has them.
type grants interface {
	Check(ctx context.Context, by grant.Subject, kind, namespace, name string) (grant.Answer, error)
}

// notGranted says what keeps an import from copying what is in another namespace; nil when nothing does.
func (c *importController) notGranted(ctx context.Context, imp *v1alpha1.VMDiskImport) (*state, error) {
	if imp.Status.Strategy == v1alpha1.StrategyImport {
		return nil, nil
	}
	return mayNotCopy(ctx, c.grants, imp)
}

// mayNotCopy is notGranted whatever the import says of its strategy: in its own namespace somebody may write that.
func mayNotCopy(ctx context.Context, all grants, imp *v1alpha1.VMDiskImport) (*state, error) {
	of := imp.Spec.CopyOf
	if of == nil {
		return nil, nil
	}
	answer, err := all.Check(ctx, grant.Subject{Namespace: imp.Namespace, ServiceAccount: of.ServiceAccountName}, of.Kind, of.Namespace, of.Name)
	if err != nil || answer.Allowed {
		return nil, err
	}
	return because(reasonNotGranted, "%s", answer.Message), nil
}
