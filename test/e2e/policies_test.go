//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// TestPoliciesRefuseWhatWouldStayEmpty makes claims that Kubernetes itself binds to empty volumes without a word.
func TestPoliciesRefuseWhatWouldStayEmpty(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("all kinds of admission policies")
	img := f.Raw(cronDiskSize)
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	lifted := f.Claim("lifted", "image", func(pvc *corev1.PersistentVolumeClaim) {
		ref := pvc.Spec.DataSourceRef
		pvc.Spec.DataSourceRef = nil
		pvc.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ref.APIGroup, Kind: ref.Kind, Name: ref.Name}
	})
	f.RequireDone(lifted, img)

	late := f.Claim("late", "", func(pvc *corev1.PersistentVolumeClaim) { pvc.Spec.DataSourceRef = nil })
	f.Kubectl("annotate", "pvc", late.name, "virtualization.k8s.io/disk-importer=image")
	f.WaitEvent(late, "AnnotationIgnored", "VMDiskImage image")

	for kind, group := range map[string]string{"VMDiskImage": v1alpha1.Group, golden.CronKind: golden.Group, golden.DataSourceKind: golden.Group} {
		refused := &corev1.PersistentVolumeClaim{ObjectMeta: f.meta("refused"), Spec: *f.PVC(lifted).Spec.DeepCopy()}
		refused.Spec.VolumeName, refused.Spec.DataSource = "", nil
		refused.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(group), Kind: kind, Name: "image", Namespace: ptr.To("elsewhere")}
		err := f.Create(f.ctx, refused)
		require.True(t, apierrors.IsInvalid(err), "%v", err)
		require.ErrorContains(t, err, "would be empty")
		require.ErrorContains(t, err, kind+" elsewhere/image")
	}
}

// TestPoliciesKeepGoldenClaimsHonest lets a user of a namespace neither forge a golden claim nor change one.
func TestPoliciesKeepGoldenClaimsHonest(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("all kinds of admission policies")
	require.NoError(t, f.Create(f.ctx, &rbacv1.RoleBinding{
		ObjectMeta: f.meta("editors"),
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "editor"}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
	}))
	config, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	require.NoError(t, err)
	config.Impersonate.UserName = "editor"
	editor, err := client.New(config, client.Options{Scheme: f.Scheme()})
	require.NoError(t, err)
	mine := f.Claim("mine", "none")
	pvc := f.PVC(mine)
	for _, annotation := range []string{golden.AnnotationVerified, golden.AnnotationRevision} {
		before := pvc.DeepCopy()
		pvc.Annotations = map[string]string{annotation: "true"}
		err := editor.Patch(f.ctx, pvc, client.MergeFrom(before))
		require.True(t, apierrors.IsForbidden(err), "%v", err)
		require.ErrorContains(t, err, "written by Gild alone")
	}
	pvc = f.PVC(mine)
	before := pvc.DeepCopy()
	pvc.Labels["note"] = "mine"
	require.NoError(t, editor.Patch(f.ctx, pvc, client.MergeFrom(before)), "all else is the editor's")
}
