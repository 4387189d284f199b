package grant

import (
	"fmt"
	"slices"

	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// snapshotGroup is the group of KindSnapshot; that of KindClaim is the core group.
const snapshotGroup = "snapshot.storage.k8s.io"

func groupOf(kind string) string {
	if kind == KindSnapshot {
		return snapshotGroup
	}
	return ""
}

// allows reports whether a ReferenceGrant lets claims of a namespace refer to an object of the
// grant's own namespace. They refer to it through a DataSource; a grant for claims is taken, too.
func allows(grant *gatewayv1beta1.ReferenceGrant, from, kind, name string) bool {
	if !grant.DeletionTimestamp.IsZero() {
		return false
	}
	return slices.ContainsFunc(grant.Spec.From, func(f gatewayv1beta1.ReferenceGrantFrom) bool {
		return string(f.Namespace) == from &&
			(f.Group == golden.Group && f.Kind == golden.DataSourceKind || f.Group == "" && f.Kind == KindClaim)
	}) && slices.ContainsFunc(grant.Spec.To, func(t gatewayv1beta1.ReferenceGrantTo) bool {
		return string(t.Group) == groupOf(kind) && string(t.Kind) == kind && (t.Name == nil || string(*t.Name) == name)
	})
}

// advice is what the owner of a namespace does to allow a copy; known says whether the cluster knows
// ReferenceGrants.
func advice(known bool, by Subject, kind, namespace, name string) string {
	from := by.Namespace
	refused := fmt.Sprintf("namespace %s does not let namespace %s copy %s %s", namespace, from, kind, name)
	bind := fmt.Sprintf("kubectl create rolebinding %s-%s --namespace %s --clusterrole %s --serviceaccount %s:%s",
		Role, from, namespace, Role, from, by.serviceAccount())
	if !known {
		return fmt.Sprintf("%s: its owner allows it with: %s", refused, bind)
	}
	grant := fmt.Sprintf("{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {namespace: %s, name: %s-%s}, "+
		"spec: {from: [{group: %s, kind: %s, namespace: %s}], to: [{group: %q, kind: %s, name: %s}]}}",
		namespace, Role, from, golden.Group, golden.DataSourceKind, from, groupOf(kind), kind, name)
	return fmt.Sprintf("%s: its owner allows it with %s (without the name of the %s, all of them may be copied, the next golden one too), or with: %s",
		refused, grant, kind, bind)
}
