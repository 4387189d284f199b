package storageprofile

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gild-project/gild/pkg/golden"
)

// Reasons of the condition Recognized, as CDI spells them.
const (
	reasonRecognized   = "RecognizedProvisioner"
	reasonUnrecognized = "UnrecognizedProvisioner"
)

// catchUp is how soon a class is looked at again when our view of it was behind.
const catchUp = time.Second

// Add has a manager keep the StorageProfiles.
func Add(mgr manager.Manager, now clock.PassiveClock) error {
	err := ctrl.NewControllerManagedBy(mgr).Named("storageprofile").
		For(&storagev1.StorageClass{}).
		Watches(&cdiv1.StorageProfile{}, &handler.EnqueueRequestForObject{}). // it has the name of its class
		Complete(&controller{client: mgr.GetClient(), clock: now})
	if err != nil {
		return fmt.Errorf("adding StorageProfiles: %w", err)
	}
	return nil
}

// controller keeps the StorageProfiles.
type controller struct {
	client client.Client
	clock  clock.PassiveClock
}

// Reconcile keeps the StorageProfile of one StorageClass. It goes with the class by itself.
func (c *controller) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	class := &storagev1.StorageClass{}
	if err := c.client.Get(ctx, request.NamespacedName, class); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !class.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	profile := &cdiv1.StorageProfile{}
	err := c.client.Get(ctx, request.NamespacedName, profile)
	switch {
	case apierrors.IsNotFound(err):
		if err := c.client.Create(ctx, profileFor(class)); client.IgnoreAlreadyExists(err) != nil {
			return ctrl.Result{}, fmt.Errorf("creating StorageProfile %s: %w", class.Name, err)
		}
		return ctrl.Result{RequeueAfter: catchUp}, nil // for its status
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("reading StorageProfile %s: %w", class.Name, err)
	case !profile.DeletionTimestamp.IsZero():
		return ctrl.Result{}, nil
	}
	after := profile.DeepCopy()
	after.Status = *statusOf(class, profile, c.clock.Now())
	if equality.Semantic.DeepEqual(profile.Status, after.Status) {
		return ctrl.Result{}, nil
	}
	err = c.client.Status().Patch(ctx, after, client.MergeFromWithOptions(profile, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: catchUp}, nil
	case client.IgnoreNotFound(err) != nil:
		return ctrl.Result{}, fmt.Errorf("writing the status of StorageProfile %s: %w", class.Name, err)
	}
	return ctrl.Result{}, nil
}

// profileFor is the StorageProfile of a StorageClass before anybody has edited it.
func profileFor(class *storagev1.StorageClass) *cdiv1.StorageProfile {
	return &cdiv1.StorageProfile{ObjectMeta: metav1.ObjectMeta{
		Name:   class.Name,
		Labels: map[string]string{"app.kubernetes.io/name": "gild", "app.kubernetes.io/managed-by": "gild-populator"},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: storagev1.SchemeGroupVersion.String(), Kind: "StorageClass", Name: class.Name, UID: class.UID, Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(false),
		}},
	}}
}

// statusOf is what holds for a class: what the operator has written, else what is known of the driver.
func statusOf(class *storagev1.StorageClass, profile *cdiv1.StorageProfile, now time.Time) *cdiv1.StorageProfileStatus {
	spec, status := &profile.Spec, profile.Status.DeepCopy()
	known := setsOf(class)
	status.StorageClass, status.Provisioner = &class.Name, &class.Provisioner
	status.CloneStrategy, status.SnapshotClass = spec.CloneStrategy, spec.SnapshotClass
	status.DataImportCronSourceFormat = ptr.To(ptr.Deref(spec.DataImportCronSourceFormat, cdiv1.DataImportCronSourceFormatPvc))
	status.ClaimPropertySets = slices.DeleteFunc(slices.Clone(spec.ClaimPropertySets), func(set cdiv1.ClaimPropertySet) bool { return len(set.AccessModes) == 0 })
	if len(status.ClaimPropertySets) == 0 {
		status.ClaimPropertySets = known
	}
	if known != nil {
		recognize(status, corev1.ConditionTrue, reasonRecognized, "the access modes and volume modes of provisioner "+class.Provisioner+" are known", now)
	} else {
		recognize(status, corev1.ConditionFalse, reasonUnrecognized, "nothing is known of provisioner "+class.Provisioner+": write what it can do into spec.claimPropertySets", now)
	}
	return status
}

// recognize writes the condition Recognized.
func recognize(status *cdiv1.StorageProfileStatus, is corev1.ConditionStatus, reason, message string, now time.Time) {
	i := slices.IndexFunc(status.Conditions, func(c cdiv1.StorageProfileCondition) bool { return c.Type == cdiv1.StorageProfileRecognized })
	if i < 0 {
		status.Conditions = append(status.Conditions, cdiv1.StorageProfileCondition{Type: cdiv1.StorageProfileRecognized})
		i = len(status.Conditions) - 1
	}
	golden.SetState(&status.Conditions[i].ConditionState, is, reason, message, now)
}
