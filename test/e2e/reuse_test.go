//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// TestSharesADownload makes three claims of one image at once, on a class that takes snapshots, and one on a class that
// takes none. The first are filled by one download, the last one by its own.
func TestSharesADownload(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]func(*corev1.PersistentVolumeClaim){"Filesystem": func(*corev1.PersistentVolumeClaim) {}, "Block": block} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.NeedsTestCluster("a driver that takes snapshots and one that does not")
			img := f.Raw(diskSize)
			source := f.Serve("disk", img.Held())
			f.VMDiskImage("image", source.URL)
			class := ofClass(f.Class(storagev1.VolumeBindingImmediate))
			shared := []claim{f.Claim("web-1", "image", class, mode), f.Claim("web-2", "image", class, mode), f.Claim("web-3", "image", class, mode, ofSize(2*claimSize))}
			leader := f.Leader(shared)
			plain := f.Claim("plain", "image", ofClass(plainClass), mode)
			f.WaitReason(plain, "Importing")
			held := source.Bytes()
			require.LessOrEqual(t, held, 2*img.length)
			source.Publish(img.file)

			for _, c := range shared {
				imp := f.RequireBound(c)
				want, reuses := v1alpha1.StrategySnapshot, &v1alpha1.ImportReference{Name: leader.Name, UID: leader.UID}
				if c.name == leader.Name {
					want, reuses = v1alpha1.StrategyImport, nil
				}
				require.Equal(t, want, imp.Status.Strategy, "%+v", imp.Status.PassedOver)
				require.Equal(t, reuses, imp.Status.Reuses)
				require.Empty(t, imp.Status.PassedOver)
			}
			require.Equal(t, v1alpha1.StrategyImport, f.RequireBound(plain).Status.Strategy)
			// Whoever follows asks for one byte, to prove that it may.
			require.Less(t, source.Bytes(), 2*img.length+img.length/2)
			for _, c := range append(shared, plain) {
				f.RequireDisk(c, img.disk)
				f.RequireNothingLeft(c)
			}
			f.WaitNothingReused(leader)
		})
	}
}

// Leader waits until one of several claims of an image imports and the others follow it.
func (f *fixture) Leader(claims []claim) *v1alpha1.VMDiskImport {
	f.Helper()
	var leader *v1alpha1.VMDiskImport
	f.Eventually("one import leads", importWithin, func(ctx context.Context) (bool, string, error) {
		leader = nil
		var follow []string
		for _, c := range claims {
			imp := &v1alpha1.VMDiskImport{}
			if err := f.Get(ctx, f.key(c.name), imp); client.IgnoreNotFound(err) != nil {
				return false, "", err
			}
			switch {
			case imp.Status.Reuses != nil:
				follow = append(follow, fmt.Sprintf("%s follows %s", c.name, imp.Status.Reuses.Name))
			case imp.Status.Phase == v1alpha1.PhaseImporting:
				leader = imp
			}
		}
		return leader != nil && len(follow) == len(claims)-1, fmt.Sprint(follow), nil
	})
	return leader
}

// WaitNothingReused waits until no snapshot of an import's volume is left.
func (f *fixture) WaitNothingReused(imp *v1alpha1.VMDiskImport) {
	f.Helper()
	f.Eventually("no snapshot", 3*goneWithin, func(ctx context.Context) (bool, string, error) {
		var all snapshotv1.VolumeSnapshotList
		err := f.List(ctx, &all, client.InNamespace(systemNamespace), client.MatchingLabels{"gild.dev/reuse-uid": string(imp.UID)})
		return len(all.Items) == 0, fmt.Sprintf("%d snapshots", len(all.Items)), err
	})
}
