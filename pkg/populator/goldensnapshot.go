package populator

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/snapshot"
)

// labelGoldenUID is the UID of the golden claim that a snapshot is of.
const labelGoldenUID = Prefix + "/golden-uid"

// goldenSnapshotName is the name of the snapshot of a golden claim in the system namespace.
func goldenSnapshotName(claim types.UID) string { return "golden-" + string(claim) }

// goldenSnapshot finds the snapshot that holds what a golden claim was filled with; nil when there is none.
func goldenSnapshot(ctx context.Context, all snapshots, system string, claim types.UID) (*snapshot.State, error) {
	state, err := all.Look(ctx, types.NamespacedName{Namespace: system, Name: goldenSnapshotName(claim)})
	if err != nil || state == nil || state.Annotations[annotationVouched] == "" {
		return nil, err
	}
	return state, nil
}

// keepSnapshot takes the snapshot of a golden claim: of PVC', before anybody else can write to its volume. done
// is false while it is being cut. A driver that cannot, or does not, is no reason to hold the image back.
func (c *importController) keepSnapshot(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (done bool, err error) {
	if kindOf(imp) != golden.CronKind || !isGoldenOf(claim, imp.Spec.ImageRef.Name) {
		return true, nil
	}
	return c.snapshotPrime(ctx, imp, &primeSnapshot{
		name: goldenSnapshotName(claim.UID), labels: map[string]string{labelGoldenUID: string(claim.UID)}, otherwise: "copies of this image will be slower",
	})
}
