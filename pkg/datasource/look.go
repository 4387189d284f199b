package datasource

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Found is where a DataSource leads to now.
type Found struct {
	// Ready: what it names can be used. Reason and Message say why not, and of another namespace
	// no more than the state.
	Ready           bool
	Reason, Message string
	// Last names the claim or the snapshot itself: the DataSource, or the one that it refers to. It is
	// nil when that does not exist.
	Last *cdiv1.DataSource
	// Claim and Snapshot are what it names; nil when it names none, or none there is.
	Claim    *corev1.PersistentVolumeClaim
	Snapshot *unstructured.Unstructured
}

// Look follows a DataSource to what it names, by the rules that its condition Ready tells of. live
// reads what is never cached. Chains of more than one step, and those to itself or to another
// namespace, lead nowhere.
func Look(ctx context.Context, reader, live client.Reader, dataSource *cdiv1.DataSource) (*Found, error) {
	v, err := readers{reader, live}.observe(ctx, dataSource)
	if err != nil {
		return nil, err
	}
	verdict := judge(v)
	found := &Found{Ready: verdict.ready, Reason: verdict.reason, Message: verdict.message, Last: dataSource, Claim: v.claim, Snapshot: v.snapshot}
	if dataSource.Spec.Source.DataSource != nil {
		found.Last = v.pointed
	}
	return found, nil
}
