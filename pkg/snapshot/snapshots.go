package snapshot

import (
	"fmt"
	"maps"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// VolumeSnapshot names a snapshot in a namespace.
type VolumeSnapshot = snapshotv1.VolumeSnapshot

// VolumeSnapshotClass says how a driver takes snapshots.
type VolumeSnapshotClass = snapshotv1.VolumeSnapshotClass

// VolumeSnapshotContent stands for the storage's own snapshot.
type VolumeSnapshotContent = snapshotv1.VolumeSnapshotContent

const (
	// LabelMade marks what this package has made. It touches nothing without it.
	LabelMade = "gild.dev/snapshot"
	// madeTaken is a snapshot of a claim; its content is the snapshot controller's.
	madeTaken = "taken"
	// madeHandedOver is a second name of a snapshot, and the content that stands for it.
	madeHandedOver = "handed-over"
)

// Snapshots reads and writes snapshots.
type Snapshots struct {
	client client.Client
	live   client.Reader
}

// New makes Snapshots that write with c and read with live, which must not be a cache.
func New(c client.Client, live client.Reader) *Snapshots {
	return &Snapshots{client: c, live: live}
}

// AddToScheme registers the kinds of snapshot.storage.k8s.io/v1 with scheme.
func AddToScheme(scheme *runtime.Scheme) error { return snapshotv1.AddToScheme(scheme) }

// find tells an object that does not exist, or whose kind does not, from a failure to read it.
func find(err error) (found bool, failure error) {
	if apierrors.IsNotFound(err) || meta.IsNoMatchError(err) {
		return false, nil
	}
	return err == nil, err
}

// made are labels with LabelMade.
func made(how string, labels map[string]string) map[string]string {
	all := make(map[string]string, len(labels)+1)
	maps.Copy(all, labels)
	all[LabelMade] = how
	return all
}

// refuseForeign fails unless an object that exists already is the one that the labels say we would
// make.
func refuseForeign(existing client.Object, want map[string]string) error {
	if !existing.GetDeletionTimestamp().IsZero() {
		return fmt.Errorf("%s is being deleted", existing.GetName())
	}
	for key, value := range want {
		if existing.GetLabels()[key] != value {
			return fmt.Errorf("another object has the name %s, without the label %s=%s: remove it", existing.GetName(), key, value)
		}
	}
	return nil
}
