package datavolume

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// note remembers what the controller asks of the API server.
func (w *world) note(verb string, object runtime.Object, subresource ...string) {
	kind, err := apiutil.GVKForObject(object, w.store.Scheme())
	require.NoError(w.t, err)
	kind.Kind = strings.TrimSuffix(kind.Kind, "List")
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	w.asked[fmt.Sprintf("%s %s", verb, strings.Join(append([]string{plural.GroupResource().String()}, subresource...), "/"))] = true
}

// noteCached remembers what is read from a cache: it is listed and watched.
func (w *world) noteCached(object runtime.Object) {
	w.note("list", object)
	w.note("watch", object)
}

// allowed are the verbs and resources of the cluster roles in a file that a service account is bound to.
func allowed(t *testing.T, account string, path ...string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, path...)...))
	require.NoError(t, err)
	roles, bound := map[string][]rbacv1.PolicyRule{}, map[string]bool{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		role, binding := &rbacv1.ClusterRole{}, &rbacv1.ClusterRoleBinding{}
		require.NoError(t, yaml.Unmarshal([]byte(document), role))
		require.NoError(t, yaml.Unmarshal([]byte(document), binding))
		switch {
		case role.Kind == "ClusterRole":
			roles[role.Name] = role.Rules
		case role.Kind == "ClusterRoleBinding" && slices.ContainsFunc(binding.Subjects, func(s rbacv1.Subject) bool { return s.Name == account }):
			bound[binding.RoleRef.Name] = true
		}
	}
	all := map[string]bool{}
	for name := range bound {
		for _, rule := range roles[name] {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					resource, sub, isSub := strings.Cut(resource, "/")
					name := strings.TrimSuffix(resource+"."+group, ".")
					if isSub {
						name += "/" + sub
					}
					for _, verb := range rule.Verbs {
						all[verb+" "+name] = true
					}
				}
			}
		}
	}
	return all
}

// TestRoles compares what is asked of the API server in the life of DataVolumes with what the populator may do:
// it is enough, and deploy/cdi/datavolume-rbac.yaml has no verb too many.
func TestRoles(t *testing.T) {
	const account = "gild-populator"
	used := map[string]bool{}
	for _, source := range []string{fromHTTP, fromClaim, fromSnapshot, fromElsewhere} {
		w := newWorld(t, aVolume(t, source, storage), immediate(), gold("vms"), gold("images"), fedora("images", &cdiv1.DataVolumeSourcePVC{Name: "gold"}))
		w.granted["PersistentVolumeClaim images/gold"] = true
		w.run()
		if image := find[v1alpha1.VMDiskImage](w); image != nil {
			image.Spec.Format = "qcow2"
			require.NoError(t, w.store.Update(t.Context(), image))
		}
		if find[cdiv1.DataSource](w) != nil {
			w.remove(find[cdiv1.DataSource](w))
			w.run()
		}
		for asked := range w.asked {
			used[asked] = true
		}
	}
	role, base := allowed(t, account, "cdi", "datavolume-rbac.yaml"), allowed(t, account, "rbac.yaml")
	for asked := range used {
		require.True(t, role[asked] || base[asked], "%s may not %s", account, asked)
	}
	for may := range role {
		require.False(t, base[may], "%s is in deploy/rbac.yaml already", may)
		_, what, _ := strings.Cut(may, " ")
		if strings.HasPrefix(what, "storageprofiles") || strings.HasPrefix(what, "cdiconfigs") {
			continue // pkg/storageprofile and pkg/cdiconfig have tests of their own
		}
		require.True(t, used[may], "nobody needs to %s", may)
	}
}
