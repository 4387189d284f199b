//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// grant lets the DataSources of another namespace name the claims of this one.
func (f *fixture) grant(to *fixture) *unstructured.Unstructured {
	f.Helper()
	grant := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"from": []any{map[string]any{"group": golden.Group, "kind": golden.DataSourceKind, "namespace": to.namespace}},
		"to":   []any{map[string]any{"group": "", "kind": "PersistentVolumeClaim"}},
	}}}
	grant.SetGroupVersionKind(schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1beta1", Kind: "ReferenceGrant"})
	grant.SetNamespace(f.namespace)
	grant.SetName("golden")
	return grant
}

// letSource gives somebody KubeVirt's permission to copy the volumes of this namespace.
func (f *fixture) letSource(to rbacv1.Subject) {
	f.Helper()
	role := &rbacv1.Role{ObjectMeta: f.meta("sources"), Rules: []rbacv1.PolicyRule{
		{Verbs: []string{"create"}, APIGroups: []string{golden.Group}, Resources: []string{"datavolumes/source"}},
	}}
	require.NoError(f, f.Create(f.ctx, role))
	require.NoError(f, f.Create(f.ctx, &rbacv1.RoleBinding{
		ObjectMeta: f.meta("sources"), Subjects: []rbacv1.Subject{to},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role.Name},
	}))
}

// TestCopiesAcrossNamespaces needs the permission of the namespace that is copied from, in either form.
func TestCopiesAcrossNamespaces(t *testing.T) {
	t.Parallel()
	for name, allow := range map[string]func(images, users *fixture){
		"ReferenceGrant": func(images, users *fixture) { require.NoError(images, images.Create(images.ctx, images.grant(users))) },
		"datavolumes/source": func(images, users *fixture) {
			images.letSource(rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:" + users.namespace})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			images, users := start(t), start(t)
			images.NeedsTestCluster("ReferenceGrants and snapshots")
			img := images.Revision(0)
			gold, _ := images.Golden("fedora", img)
			users.DataSource("fedora", cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: images.namespace, Name: gold.name}})
			c := users.CopyOf("fedora", "mine", images.as(gold))
			imp := users.RequireWaiting(c, "NotGranted")
			require.Contains(t, ready(imp).Message, "ReferenceGrant")
			require.Contains(t, ready(imp).Message, images.namespace)
			allow(images, users)
			users.RequireStrategy(c, v1alpha1.StrategySnapshot)
			users.RequireDisk(c, img.disk)
			users.RequireNothingLeft(c)
		})
	}
}

// TestGrantRevokedMidCopy hands nothing over that may no longer be read, and goes on once it may.
func TestGrantRevokedMidCopy(t *testing.T) {
	t.Parallel()
	images, users := start(t), start(t)
	images.NeedsTestCluster("ReferenceGrants")
	img := images.Revision(0)
	images.VMDiskImage("image", images.Serve("disk", img.file).URL)
	source := images.Claim("source", "image", ofSize(cronClaimSize), ofClass(plainClass))
	images.RequireBound(source)
	grant := images.grant(users)
	require.NoError(t, images.Create(images.ctx, grant))
	users.DataSource("named", cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: images.namespace, Name: source.name}})
	c := users.MidCopy("named", source, ofSize(2*cronClaimSize))
	require.NoError(t, images.Delete(images.ctx, grant))
	users.Resume(source)
	users.WaitReason(c, "NotGranted")
	require.NoError(t, images.Create(images.ctx, images.grant(users)))
	users.RequireStrategy(c, v1alpha1.StrategyCopy, v1alpha1.StrategySnapshot)
	users.RequireDisk(c, img.disk)
	users.RequireNothingLeft(c)
}
