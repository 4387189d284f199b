//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// selectedNode is where the scheduler writes the node of a claim's first consumer.
const selectedNode = "volume.kubernetes.io/selected-node"

// TestAsksForAnotherNode takes the node off a volume that is being made, as a storage driver does
// that has no room there. The node is chosen again, and the import goes on.
func TestAsksForAnotherNode(t *testing.T) {
	for name, importerFirst := range map[string]bool{"before the importer starts": false, "while the importer waits": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			class, pool := f.poolClass(storagev1.VolumeBindingWaitForFirstConsumer, nil)
			f.setPool(pool, map[string]any{"refuse": "no room on this node"})
			t.Cleanup(func() { f.setPool(pool, nil) })
			img := f.Raw(diskSize)
			img.file.Need = map[string]string{"Authorization": "Bearer " + f.right()}
			f.VMDiskImage("image", f.Serve("disk", img.file).URL, func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.HTTP.SecretRef = "login" })
			if importerFirst {
				f.Secret("login", map[string]string{"token": f.right()})
			}
			c := f.Claim("disk", "image", ofClass(class))
			consumer := f.Consume(c, img.disk.Size)
			first := f.waitPrime(c, "")
			if importerFirst {
				f.WaitReason(c, "ProvisioningFailed")
			} else {
				f.WaitReason(c, "SecretNotFound")
			}
			f.refuseNode(c, first, importerFirst)
			if !importerFirst {
				f.Secret("login", map[string]string{"token": f.right()})
			}
			f.waitPrime(c, first)
			f.setPool(pool, nil)
			f.RequireBound(c)
			f.RequireReport(c, consumer, img.disk, img.disk.Size)
			f.RequireNothingLeft(c)
		})
	}
}

// waitPrime waits until the volume of a claim is to be made for a node, and is another one than before.
func (f *fixture) waitPrime(c claim, before types.UID) types.UID {
	f.Helper()
	prime := &corev1.PersistentVolumeClaim{}
	f.Eventually("a volume for a node", importWithin, func(ctx context.Context) (bool, string, error) {
		err := client.IgnoreNotFound(f.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "prime-" + c.uid}, prime))
		return prime.UID != before && prime.Annotations[selectedNode] != "", prime.Name + " for node " + prime.Annotations[selectedNode], err
	})
	return prime.UID
}

// refuseNode takes the node off a claim's volume. While the importer waits, the scheduler puts it there
// again: then it is refused until the import has given up on it.
func (f *fixture) refuseNode(c claim, target types.UID, importerWaits bool) {
	f.Helper()
	f.Eventually("node refused", importWithin, func(ctx context.Context) (bool, string, error) {
		prime := &corev1.PersistentVolumeClaim{}
		if err := f.Get(ctx, client.ObjectKey{Namespace: systemNamespace, Name: "prime-" + c.uid}, prime); err != nil {
			return false, "", client.IgnoreNotFound(err)
		}
		imp, err := f.readImport(ctx, c)
		if err != nil {
			return false, "", err
		}
		if prime.UID != target || imp.Status.LastFailure != nil && imp.Status.LastFailure.Reason == "NodeRefused" {
			return true, "", nil
		}
		before := prime.DeepCopy()
		delete(prime.Annotations, selectedNode)
		err = f.Patch(ctx, prime, client.MergeFrom(before))
		return !importerWaits, describeImport(imp), err
	})
	if importerWaits {
		require.Equal(f, "NodeRefused", f.Import(c).Status.LastFailure.Reason)
		f.WaitEvent(c, "ImportRetry", "NodeRefused")
	}
}
