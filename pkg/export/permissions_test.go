package export

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"
)

// TestPermissions compares what an Exports asks of the API server with what deploy/copy-rbac.yaml allows:
// neither may be more than the other.
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	used := map[string]bool{}
	note := func(verb string, o any) {
		kind := strings.TrimSuffix(fmt.Sprintf("%T", o)[strings.LastIndex(fmt.Sprintf("%T", o), ".")+1:], "List")
		plural := strings.ToLower(kind) + "s"
		used[verb+" "+strings.Replace(plural, "policys", "policies", 1)] = true
	}
	noted := interceptor.NewClient(w.store, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			note("get", o)
			return c.Get(ctx, key, o, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			note("list", list)
			return c.List(ctx, list, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			note("create", o)
			o.SetUID("uid")
			return c.Create(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			note("delete", o)
			return c.Delete(ctx, o, opts...)
		},
	})
	exports := New(noted, noted, systemNamespace, w.clock)
	_, err := exports.Ensure(t.Context(), testSpec())
	require.NoError(t, err)
	_, err = exports.Writers(t.Context(), testSpec().Claim)
	require.NoError(t, err)
	for range 2 {
		_, err = exports.Clear(t.Context(), testSpec().Claim.Namespace, testSpec().ID)
		require.NoError(t, err)
	}

	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "copy-rbac.yaml"))
	require.NoError(t, err)
	role := &rbacv1.ClusterRole{}
	first, _, _ := strings.Cut(string(text), "\n---\n")
	require.NoError(t, yaml.UnmarshalStrict([]byte(first), role))
	allowed := map[string]bool{}
	for _, rule := range role.Rules {
		for _, resource := range rule.Resources {
			group := "" // of all but one of them
			if resource == "networkpolicies" {
				group = "networking.k8s.io"
			}
			require.True(t, slices.Contains(rule.APIGroups, group), resource)
			for _, verb := range rule.Verbs {
				allowed[verb+" "+resource] = true
			}
		}
	}
	require.Equal(t, allowed, used)
}
