package populator

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// imageController keeps the status of VMDiskImages, and holds one that is being deleted.
type imageController struct {
	holder
	clock clock.PassiveClock
}

// Reconcile brings one VMDiskImage in line with its imports.
func (c *imageController) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	image := &v1alpha1.VMDiskImage{}
	if err := c.client.Get(ctx, request.NamespacedName, image); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	imports, err := c.imports(ctx, image)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !image.DeletionTimestamp.IsZero() {
		return c.release(ctx, image, imports)
	}
	before := image.DeepCopy()
	summarize(image, imports, c.clock.Now())
	if equality.Semantic.DeepEqual(before.Status, image.Status) {
		return ctrl.Result{}, nil
	}
	if err := c.client.Status().Patch(ctx, image, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return ctrl.Result{}, fmt.Errorf("writing the status of VMDiskImage %s: %w", image.Name, err)
	}
	return ctrl.Result{}, nil
}

// summarize writes what the imports say into the status of their VMDiskImage: Ready as the newest
// has it, and the last one that succeeded. Messages stay with the imports, so that fifty
// of them do not fight over one object.
func summarize(image *v1alpha1.VMDiskImage, imports []v1alpha1.VMDiskImport, now time.Time) {
	var newest, last *v1alpha1.VMDiskImport
	for i := range imports {
		imp := &imports[i]
		if newest == nil || newest.CreationTimestamp.Before(&imp.CreationTimestamp) ||
			newest.CreationTimestamp.Equal(&imp.CreationTimestamp) && newest.Name < imp.Name {
			newest = imp
		}
		if r := imp.Status.Result; r != nil && (last == nil || last.Status.Result.Time.Before(&r.Time)) {
			last = imp
		}
	}
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionUnknown, Reason: reasonNotImportedYet,
		Message: "no claim has asked for this image yet", ObservedGeneration: image.Generation, LastTransitionTime: metav1.NewTime(now)}
	if newest != nil {
		ready.Reason, ready.Message = reasonWaitingForVolume, "see VMDiskImport "+newest.Name
		if c := meta.FindStatusCondition(newest.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			ready.Status, ready.Reason = c.Status, c.Reason
		}
	}
	meta.SetStatusCondition(&image.Status.Conditions, ready)
	image.Status.ObservedGeneration = image.Generation
	if last == nil {
		return // the record of the last import stays when its claim has gone
	}
	if old := image.Status.LastImport; old == nil || old.Time.Before(&last.Status.Result.Time) {
		image.Status.LastImport = &v1alpha1.LastImport{Name: last.Name, Digest: last.Status.Result.Digest, Time: last.Status.Result.Time}
	}
}
