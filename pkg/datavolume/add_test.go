package datavolume

import (
	"testing"

	"github.com/stretchr/testify/require"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// TestWhoIsWoken: what waits for a DataSource or a StorageClass is looked at when one comes.
func TestWhoIsWoken(t *testing.T) {
	volume := func(namespace, name, source string, phase cdiv1.DataVolumePhase) client.Object {
		volume := aVolume(t, source, storage)
		volume.Namespace, volume.Name, volume.Status.Phase = namespace, name, phase
		return volume
	}
	w := newWorld(t,
		volume("images", "here", fromDataSource, ""),
		volume("images", "here-done", fromDataSource, cdiv1.Succeeded),
		volume("vms", "elsewhere", fromElsewhere, cdiv1.Pending),
		volume("vms", "of-its-own", fromDataSource, cdiv1.Pending),
		volume("vms", "importing", fromHTTP, cdiv1.ImportInProgress),
	)
	woken := func(requests []reconcile.Request) []string {
		var all []string
		for _, request := range requests {
			all = append(all, request.String())
		}
		return all
	}
	require.ElementsMatch(t, []string{"images/fedora", "images/here", "vms/elsewhere"},
		woken(copiesOf(w.store)(t.Context(), fedora("images", nil))), "the first is the one that it may have been made for")
	class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
	require.ElementsMatch(t, []string{"images/here", "vms/elsewhere", "vms/of-its-own"}, woken(pending(w.store)(t.Context(), class)))
	require.Equal(t, []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: "vms", Name: "gold"}}}, sameName(t.Context(), gold("vms")))
}
