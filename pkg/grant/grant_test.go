package grant

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/test/definition"
)

// world is a store with an authorizer.
type world struct {
	t     *testing.T
	store client.WithWatch
	// permits answers access reviews, by "verb group/resource/subresource".
	permits map[string]bool
	reviews []authorizationv1.SubjectAccessReviewSpec
	// listing and asking are what these calls fail with.
	listing, asking error
	*Grants
}

func newWorld(t *testing.T, grants ...string) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, AddToScheme(scheme))
	w := &world{t: t}
	kind := definition.Load(t, filepath.Join(definition.Folder(t, "sigs.k8s.io/gateway-api"), "config", "crd", "standard", "gateway.networking.k8s.io_referencegrants.yaml"))
	builder := fake.NewClientBuilder().WithScheme(scheme)
	for _, text := range grants {
		require.NoError(t, kind.Create(t.Context(), definition.Parse(t, text)))
		grant := &gatewayv1beta1.ReferenceGrant{}
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), grant))
		builder.WithObjects(grant)
	}
	w.store = builder.Build()
	through := interceptor.NewClient(w.store, interceptor.Funcs{
		List: func(ctx context.Context, next client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if w.listing != nil {
				return w.listing
			}
			return next.List(ctx, list, opts...)
		},
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, _ ...client.CreateOption) error {
			review, ok := o.(*authorizationv1.SubjectAccessReview)
			require.True(t, ok, "%T is created", o)
			w.reviews = append(w.reviews, review.Spec)
			review.Status.Allowed = w.permits[asked(review.Spec.ResourceAttributes)]
			return w.asking
		},
	})
	w.Grants = New(through, through)
	return w
}

func asked(a *authorizationv1.ResourceAttributes) string {
	return a.Verb + " " + a.Group + "/" + a.Resource + "/" + a.Subresource
}

// granting is a ReferenceGrant of namespace images.
func granting(from, to string) string {
	return "{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {namespace: images, name: g}, spec: {from: [" + from + "], to: [" + to + "]}}"
}

func TestReferenceGrants(t *testing.T) {
	const (
		fromSource = "{group: cdi.kubevirt.io, kind: DataSource, namespace: vms}"
		fromClaim  = `{group: "", kind: PersistentVolumeClaim, namespace: vms}`
		toClaims   = `{group: "", kind: PersistentVolumeClaim}`
		toFedora   = `{group: "", kind: PersistentVolumeClaim, name: fedora}`
		toSnaps    = "{group: snapshot.storage.k8s.io, kind: VolumeSnapshot}"
	)
	for name, test := range map[string]struct {
		from, to string
		kind     string
		allowed  bool
	}{
		"all claims, from a DataSource":      {fromSource, toClaims, KindClaim, true},
		"all claims, from claims":            {fromClaim, toClaims, KindClaim, true},
		"this claim":                         {fromSource, toFedora, KindClaim, true},
		"another claim":                      {fromSource, `{group: "", kind: PersistentVolumeClaim, name: debian}`, KindClaim, false},
		"one of several":                     {"{group: a.io, kind: B, namespace: c}, " + fromSource, toSnaps + ", " + toFedora, KindClaim, true},
		"snapshots":                          {fromSource, toSnaps, KindSnapshot, true},
		"this snapshot":                      {fromSource, "{group: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: fedora}", KindSnapshot, true},
		"snapshots are not claims":           {fromSource, toSnaps, KindClaim, false},
		"claims are not snapshots":           {fromSource, toClaims, KindSnapshot, false},
		"a kind of another group":            {fromSource, "{group: example.org, kind: PersistentVolumeClaim}", KindClaim, false},
		"from another namespace":             {"{group: cdi.kubevirt.io, kind: DataSource, namespace: others}", toClaims, KindClaim, false},
		"from another kind":                  {"{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: vms}", toClaims, KindClaim, false},
		"from a DataSource of another group": {"{group: example.org, kind: DataSource, namespace: vms}", toClaims, KindClaim, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, granting(test.from, test.to))
			answer, err := w.Check(t.Context(), Subject{Namespace: "vms"}, test.kind, "images", "fedora")
			require.NoError(t, err)
			require.Equal(t, test.allowed, answer.Allowed)
			require.Equal(t, test.allowed, answer.Message == "")
			require.Equal(t, test.allowed, len(w.reviews) == 0, "who has a grant is not asked about")
		})
	}
}

func TestGrantOfAnotherNamespaceCountsForNothing(t *testing.T) {
	elsewhere := strings.Replace(granting("{group: cdi.kubevirt.io, kind: DataSource, namespace: vms}", `{group: "", kind: PersistentVolumeClaim}`), "namespace: images", "namespace: vms", 1)
	answer, err := newWorld(t, elsewhere).Check(t.Context(), Subject{Namespace: "vms"}, KindClaim, "images", "fedora")
	require.NoError(t, err)
	require.False(t, answer.Allowed)
}

func TestOwnNamespaceNeedsNoGrant(t *testing.T) {
	w := newWorld(t)
	w.listing, w.asking = errors.New("not listed"), errors.New("not asked")
	answer, err := w.Check(t.Context(), Subject{Namespace: "vms"}, KindClaim, "vms", "fedora")
	require.NoError(t, err)
	require.Equal(t, Answer{Allowed: true}, answer)
}

// TestPermissions asks as CDI does: datavolumes/source, or what amounts to it.
func TestPermissions(t *testing.T) {
	for name, test := range map[string]struct {
		kind    string
		permits map[string]bool
		allowed bool
	}{
		"none":                        {KindClaim, nil, false},
		"the source of DataVolumes":   {KindClaim, map[string]bool{"create cdi.kubevirt.io/datavolumes/source": true}, true},
		"pods, which mount any claim": {KindClaim, map[string]bool{"create /pods/": true}, true},
		"a snapshot":                  {KindSnapshot, map[string]bool{"create cdi.kubevirt.io/datavolumes/source": true}, true},
		"a snapshot with pods alone":  {KindSnapshot, map[string]bool{"create /pods/": true}, false},
		// CDI asks for "pvcs", which no role names: only who may create anything has it.
		"a snapshot with everything": {KindSnapshot, map[string]bool{"create /pods/": true, "create /pvcs/": true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.permits = test.permits
			answer, err := w.Check(t.Context(), Subject{Namespace: "vms"}, test.kind, "images", "fedora")
			require.NoError(t, err)
			require.Equal(t, test.allowed, answer.Allowed)
			require.NotEmpty(t, w.reviews)
			for _, review := range w.reviews {
				require.Equal(t, "system:serviceaccount:vms:default", review.User)
				require.Equal(t, []string{"system:serviceaccounts", "system:serviceaccounts:vms", "system:authenticated"}, review.Groups)
				require.Equal(t, "images", review.ResourceAttributes.Namespace)
				require.Equal(t, "fedora", review.ResourceAttributes.Name)
			}
		})
	}
}

// TestAdvice follows the advice: the grant in the message allows what was refused, and no more.
func TestAdvice(t *testing.T) {
	for _, kind := range []string{KindClaim, KindSnapshot} {
		t.Run(kind, func(t *testing.T) {
			answer, err := newWorld(t).Check(t.Context(), Subject{Namespace: "vms"}, kind, "images", "fedora")
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(answer.Message, "namespace images does not let namespace vms copy "+kind+" fedora"), answer.Message)
			_, rest, ok := strings.Cut(answer.Message, "allows it with {")
			require.True(t, ok, answer.Message)
			text, _, ok := strings.Cut(rest, "}} ")
			require.True(t, ok, answer.Message)
			w := newWorld(t, "{"+text+"}}")
			answer, err = w.Check(t.Context(), Subject{Namespace: "vms"}, kind, "images", "fedora")
			require.NoError(t, err)
			require.True(t, answer.Allowed)
			answer, err = w.Check(t.Context(), Subject{Namespace: "vms"}, kind, "images", "debian")
			require.NoError(t, err)
			require.False(t, answer.Allowed)
		})
	}
}

// TestWithoutReferenceGrants has a cluster that does not know them: the advice is the other way.
func TestWithoutReferenceGrants(t *testing.T) {
	for name, missing := range map[string]error{
		"no match":  &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: gatewayv1beta1.GroupName, Kind: "ReferenceGrant"}},
		"not found": apierrors.NewNotFound(schema.GroupResource{Group: gatewayv1beta1.GroupName}, ""),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.listing = missing
			answer, err := w.Check(t.Context(), Subject{Namespace: "vms"}, KindClaim, "images", "fedora")
			require.NoError(t, err)
			require.Equal(t, Answer{Message: "namespace images does not let namespace vms copy PersistentVolumeClaim fedora: its owner allows it with: " +
				"kubectl create rolebinding gild-copy-vms --namespace images --clusterrole gild-copy --serviceaccount vms:default"}, answer)
			w.permits = map[string]bool{"create cdi.kubevirt.io/datavolumes/source": true}
			answer, err = w.Check(t.Context(), Subject{Namespace: "vms"}, KindClaim, "images", "fedora")
			require.NoError(t, err)
			require.True(t, answer.Allowed)
		})
	}
}

// TestFaults has the calls fail: nothing is allowed, and nothing is refused for good.
func TestFaults(t *testing.T) {
	fault := apierrors.NewInternalError(errors.New("the store is down"))
	w := newWorld(t)
	w.listing = fault
	answer, err := w.Check(t.Context(), Subject{Namespace: "vms"}, KindClaim, "images", "fedora")
	require.ErrorIs(t, err, fault)
	require.Zero(t, answer)
	w.listing, w.asking, w.permits = nil, fault, map[string]bool{"create cdi.kubevirt.io/datavolumes/source": true}
	answer, err = w.Check(t.Context(), Subject{Namespace: "vms"}, KindClaim, "images", "fedora")
	require.ErrorIs(t, err, fault)
	require.Zero(t, answer)
	w.asking = nil
	_, err = w.Check(t.Context(), Subject{Namespace: "vms"}, "Secret", "images", "fedora")
	require.ErrorContains(t, err, "only PersistentVolumeClaim and VolumeSnapshot are copied")
}

// TestSample: the grant among the samples is for what the DataSource beside it names.
func TestSample(t *testing.T) {
	folder := filepath.Join("..", "..", "deploy", "samples", "namespaces")
	sample, err := os.ReadFile(filepath.Join(folder, "referencegrant.yaml"))
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(folder, "datasource.yaml"))
	require.NoError(t, err)
	source := &cdiv1.DataSource{}
	require.NoError(t, yaml.UnmarshalStrict(data, source))
	pvc := source.Spec.Source.PVC
	_, grant, ok := strings.Cut(string(sample), "\n") // its first line is a comment
	require.True(t, ok)
	w := newWorld(t, grant)
	for from, allowed := range map[string]bool{"vms": true, "others": false} {
		answer, err := w.Check(t.Context(), Subject{Namespace: from}, KindClaim, pvc.Namespace, pvc.Name)
		require.NoError(t, err)
		require.Equal(t, allowed, answer.Allowed)
	}

	data, err = os.ReadFile(filepath.Join(folder, "rolebinding.yaml"))
	require.NoError(t, err)
	binding := &rbacv1.RoleBinding{}
	require.NoError(t, yaml.UnmarshalStrict(data, binding))
	require.Equal(t, rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: Role}, binding.RoleRef)
	require.Equal(t, pvc.Namespace, binding.Namespace)
	require.Equal(t, []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "vms", Name: defaultServiceAccount}}, binding.Subjects)
}

// TestRoles: the role that the advice names gives what is asked for, and ours what Check needs.
func TestRoles(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grant-rbac.yaml"))
	require.NoError(t, err)
	roles := map[string][]rbacv1.PolicyRule{}
	for document := range strings.SplitSeq(string(data), "\n---\n") {
		role := &rbacv1.ClusterRole{}
		require.NoError(t, yaml.Unmarshal([]byte(document), role))
		if role.Kind == "ClusterRole" {
			roles[role.Name] = role.Rules
		}
	}
	require.Equal(t, []rbacv1.PolicyRule{{APIGroups: []string{"cdi.kubevirt.io"}, Resources: []string{"datavolumes/source"}, Verbs: []string{"create"}}}, roles[Role])
	gives := func(group, resource, verb string) bool {
		return slices.ContainsFunc(roles["gild-grants"], func(r rbacv1.PolicyRule) bool {
			return slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource) && slices.Contains(r.Verbs, verb)
		})
	}
	require.True(t, gives("gateway.networking.k8s.io", "referencegrants", "list"))
	require.True(t, gives("authorization.k8s.io", "subjectaccessreviews", "create"))
}
