//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// importWithin bounds an import of a small disk on a machine that does much else.
	importWithin = 3 * time.Minute
	// diskSize and claimSize are those of most tests.
	diskSize  = 24 * mib
	claimSize = 96 * mib
	// immediateAnnotation asks for an import before anything uses the claim.
	immediateAnnotation = "cdi.kubevirt.io/storage.bind.immediate.requested"
)

// claim is a claim of a test, one in particular: another one of its name is not meant.
type claim struct {
	name string
	uid  string
	mode corev1.PersistentVolumeMode
}

// VMDiskImage makes a VMDiskImage of a URL. edit changes its spec first.
func (f *fixture) VMDiskImage(name, url string, edit ...func(*v1alpha1.VMDiskImageSpec)) {
	f.Helper()
	vmdi := &v1alpha1.VMDiskImage{ObjectMeta: f.meta(name)}
	vmdi.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: url}
	for _, change := range edit {
		change(&vmdi.Spec)
	}
	require.NoError(f, f.Create(f.ctx, vmdi))
}

// EditImage changes the spec of a VMDiskImage.
func (f *fixture) EditImage(name string, edit func(*v1alpha1.VMDiskImageSpec)) {
	f.Helper()
	vmdi := &v1alpha1.VMDiskImage{}
	require.NoError(f, f.Get(f.ctx, f.key(name), vmdi))
	before := vmdi.DeepCopy()
	edit(&vmdi.Spec)
	require.NoError(f, f.Patch(f.ctx, vmdi, client.MergeFrom(before)))
}

// Claim makes a claim of a VMDiskImage: Filesystem, of an Immediate class, unless edit says otherwise.
func (f *fixture) Claim(name, imageName string, edit ...func(*corev1.PersistentVolumeClaim)) claim {
	f.Helper()
	pvc := &corev1.PersistentVolumeClaim{ObjectMeta: f.meta(name), Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		VolumeMode:  ptr.To(corev1.PersistentVolumeFilesystem),
		DataSourceRef: &corev1.TypedObjectReference{
			APIGroup: ptr.To(v1alpha1.Group), Kind: "VMDiskImage", Name: imageName,
		},
	}}
	pvc.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(claimSize, resource.BinarySI)}
	for _, change := range edit {
		change(pvc)
	}
	if pvc.Spec.StorageClassName == nil {
		pvc.Spec.StorageClassName = ptr.To(f.Class(storagev1.VolumeBindingImmediate))
	}
	require.NoError(f, f.Create(f.ctx, pvc))
	return claim{name: name, uid: string(pvc.UID), mode: *pvc.Spec.VolumeMode}
}

// block makes a claim one of a block device.
func block(pvc *corev1.PersistentVolumeClaim) {
	pvc.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
}

// ofClass gives a claim a StorageClass.
func ofClass(name string) func(*corev1.PersistentVolumeClaim) {
	return func(pvc *corev1.PersistentVolumeClaim) { pvc.Spec.StorageClassName = &name }
}

// ofSize gives a claim a size in bytes.
func ofSize(bytes int64) func(*corev1.PersistentVolumeClaim) {
	return func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.Resources.Requests[corev1.ResourceStorage] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
}

// immediately asks for the import of a claim before anything uses it.
func immediately(pvc *corev1.PersistentVolumeClaim) {
	metav1.SetMetaDataAnnotation(&pvc.ObjectMeta, immediateAnnotation, "true")
}

// Class returns a StorageClass with the binding mode: the one under test, or a copy of it.
func (f *fixture) Class(mode storagev1.VolumeBindingMode) string {
	f.Helper()
	base := f.baseClass()
	if bindingMode(base) == mode && reclaimPolicy(base) == corev1.PersistentVolumeReclaimDelete {
		return base.Name
	}
	return f.CopyClass("gild-e2e-"+f.run+"-"+strings.ToLower(string(mode)), func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = &mode
	})
}

// CopyClass makes a StorageClass like the one under test, that deletes its volumes, and returns its
// name. One that is there is taken as it is.
func (f *fixture) CopyClass(name string, edit func(*storagev1.StorageClass)) string {
	f.Helper()
	base := f.baseClass()
	class := base.DeepCopy()
	class.ObjectMeta = metav1.ObjectMeta{Name: name, Labels: map[string]string{runLabel: f.run}}
	class.ReclaimPolicy = ptr.To(corev1.PersistentVolumeReclaimDelete)
	edit(class)
	require.NoError(f, client.IgnoreAlreadyExists(f.Create(f.ctx, class)))
	return name
}

// NewClassName is a name for a StorageClass of the test's own.
func (f *fixture) NewClassName() string { return "gild-e2e-" + f.run + "-" + rand.String(5) }

// baseClass is the class of STORAGE_CLASS, or the cluster's default one.
func (f *fixture) baseClass() *storagev1.StorageClass {
	f.Helper()
	var classes storagev1.StorageClassList
	require.NoError(f, f.List(f.ctx, &classes))
	i := slices.IndexFunc(classes.Items, func(class storagev1.StorageClass) bool {
		return f.class == class.Name || f.class == "" && class.Annotations["storageclass.kubernetes.io/is-default-class"] == "true"
	})
	require.GreaterOrEqual(f, i, 0, "the cluster has no StorageClass %q (empty: a default one): set STORAGE_CLASS", f.class)
	return &classes.Items[i]
}

func bindingMode(class *storagev1.StorageClass) storagev1.VolumeBindingMode {
	return ptr.Deref(class.VolumeBindingMode, storagev1.VolumeBindingImmediate)
}

func reclaimPolicy(class *storagev1.StorageClass) corev1.PersistentVolumeReclaimPolicy {
	return ptr.Deref(class.ReclaimPolicy, corev1.PersistentVolumeReclaimDelete)
}

func (f *fixture) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: f.namespace, Name: name}
}

// PVC reads a claim.
func (f *fixture) PVC(c claim) *corev1.PersistentVolumeClaim {
	f.Helper()
	pvc := &corev1.PersistentVolumeClaim{}
	require.NoError(f, f.Get(f.ctx, f.key(c.name), pvc))
	require.Equal(f, c.uid, string(pvc.UID), "another claim has the name %s now", c.name)
	return pvc
}

// Import reads the VMDiskImport of a claim.
func (f *fixture) Import(c claim) *v1alpha1.VMDiskImport {
	f.Helper()
	imp, err := f.readImport(f.ctx, c)
	require.NoError(f, err)
	return imp
}

// readImport reads the VMDiskImport of a claim. One of another claim of its name is an error.
func (f *fixture) readImport(ctx context.Context, c claim) (*v1alpha1.VMDiskImport, error) {
	imp := &v1alpha1.VMDiskImport{}
	if err := f.Get(ctx, f.key(c.name), imp); err != nil {
		return nil, err
	}
	if string(imp.Spec.ClaimRef.UID) != c.uid {
		return nil, apierrors.NewNotFound(v1alpha1.GroupVersion().WithResource("vmdiskimports").GroupResource(), c.name)
	}
	return imp, nil
}

// ready is the Ready condition of an import; an empty one before it has said anything.
func ready(imp *v1alpha1.VMDiskImport) metav1.Condition {
	return ptr.Deref(meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionReady), metav1.Condition{})
}

// describeImport says in one line how far an import is.
func describeImport(imp *v1alpha1.VMDiskImport) string {
	condition := ready(imp)
	return fmt.Sprintf("import %s is %s, attempt %d: %s: %s", imp.Name, imp.Status.Phase, imp.Status.Attempts, condition.Reason, condition.Message)
}

// WaitImport waits until the import of a claim is as wanted. An import that fails for good
// ends the wait, unless failure is wanted.
func (f *fixture) WaitImport(c claim, what string, within time.Duration, wanted func(*v1alpha1.VMDiskImport) bool) *v1alpha1.VMDiskImport {
	f.Helper()
	var last *v1alpha1.VMDiskImport
	f.Eventually(what, within, func(ctx context.Context) (bool, string, error) {
		imp, err := f.readImport(ctx, c)
		if apierrors.IsNotFound(err) {
			return false, "there is no import of claim " + c.name, nil
		}
		if err != nil {
			return false, "", err
		}
		last = imp
		if wanted(imp) {
			return true, "", nil
		}
		if imp.Status.Phase == v1alpha1.PhaseFailed {
			return false, describeImport(imp), errors.New("the import has failed for good")
		}
		return false, describeImport(imp), nil
	})
	return last
}

// WaitAnew waits until the import of a claim is another one than before: it has been started anew.
func (f *fixture) WaitAnew(c claim, before *v1alpha1.VMDiskImport) {
	f.Helper()
	f.Eventually("a new import", goesOnWithin, func(ctx context.Context) (bool, string, error) {
		imp, err := f.readImport(ctx, c)
		if err != nil {
			return false, "there is no import of claim " + c.name, client.IgnoreNotFound(err)
		}
		return imp.UID != before.UID, describeImport(imp), nil
	})
}

// WaitReason waits until an import says why it does not run, or what it does.
func (f *fixture) WaitReason(c claim, reason string) *v1alpha1.VMDiskImport {
	f.Helper()
	return f.WaitImport(c, "reason "+reason, importWithin, func(imp *v1alpha1.VMDiskImport) bool {
		return ready(imp).Reason == reason
	})
}

// RequireWaiting waits until an import waits for reason, and checks that its user is told.
func (f *fixture) RequireWaiting(c claim, reason string) *v1alpha1.VMDiskImport {
	f.Helper()
	imp := f.WaitReason(c, reason)
	require.Equal(f, v1alpha1.PhasePending, imp.Status.Phase)
	require.True(f, meta.IsStatusConditionTrue(imp.Status.Conditions, v1alpha1.ConditionReconciling))
	require.NotEmpty(f, ready(imp).Message)
	require.Equal(f, corev1.ClaimPending, f.PVC(c).Status.Phase)
	f.WaitEvent(c, "ImportWaiting", reason)
	return imp
}

// RequireBound waits until a claim is bound and its import has succeeded.
func (f *fixture) RequireBound(c claim) *v1alpha1.VMDiskImport {
	f.Helper()
	imp := f.WaitImport(c, "success", importWithin, func(imp *v1alpha1.VMDiskImport) bool {
		return imp.Status.Phase == v1alpha1.PhaseSucceeded
	})
	f.Eventually("claim bound", time.Minute, func(ctx context.Context) (bool, string, error) {
		pvc := &corev1.PersistentVolumeClaim{}
		err := f.Get(ctx, f.key(c.name), pvc)
		return pvc.Status.Phase == corev1.ClaimBound, "claim is " + string(pvc.Status.Phase), err
	})
	require.Equal(f, metav1.ConditionTrue, ready(imp).Status)
	require.Nil(f, meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionReconciling))
	require.Nil(f, meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionStalled))
	return imp
}

// RequireFailed waits until an import has failed for good for reason, after one attempt, and checks
// what issue and user are promised: the claim is not bound, an event tells why, and nothing is left.
func (f *fixture) RequireFailed(c claim, reason string) *v1alpha1.VMDiskImport {
	f.Helper()
	imp := f.WaitImport(c, "failure", importWithin, func(imp *v1alpha1.VMDiskImport) bool {
		return imp.Status.Phase == v1alpha1.PhaseFailed
	})
	require.NotNil(f, imp.Status.LastFailure)
	require.Equal(f, reason, imp.Status.LastFailure.Reason, imp.Status.LastFailure.Message)
	require.NotEmpty(f, imp.Status.LastFailure.Message)
	require.Equal(f, reason, ready(imp).Reason)
	require.Equal(f, metav1.ConditionFalse, ready(imp).Status)
	require.True(f, meta.IsStatusConditionTrue(imp.Status.Conditions, v1alpha1.ConditionStalled))
	require.Nil(f, meta.FindStatusCondition(imp.Status.Conditions, v1alpha1.ConditionReconciling))
	require.EqualValues(f, 1, imp.Status.Attempts, "what cannot mend itself is tried once")
	require.Nil(f, imp.Status.NextAttemptTime)
	f.WaitEvent(c, "ImportFailed", reason)
	require.Equal(f, corev1.ClaimPending, f.PVC(c).Status.Phase)
	f.RequireNothingLeft(c)
	require.Equal(f, corev1.ClaimPending, f.PVC(c).Status.Phase)
	return imp
}

// WaitEvent waits for an event on a claim whose message contains text.
func (f *fixture) WaitEvent(c claim, reason, text string) {
	f.Helper()
	// Ten seconds are promised, on a machine that has time for it; and what it tells may have to happen first.
	f.Eventually("event "+reason, importWithin, func(ctx context.Context) (bool, string, error) {
		events, err := f.events(ctx, c)
		found := slices.ContainsFunc(events, func(event corev1.Event) bool {
			return event.Reason == reason && strings.Contains(event.Message, text)
		})
		return found, describeEvents(events), err
	})
}

// Events are the events on a claim, oldest first.
func (f *fixture) Events(c claim) []corev1.Event {
	f.Helper()
	events, err := f.events(f.ctx, c)
	require.NoError(f, err)
	return events
}

func (f *fixture) events(ctx context.Context, c claim) ([]corev1.Event, error) {
	var events corev1.EventList
	err := f.List(ctx, &events, client.InNamespace(f.namespace), client.MatchingFields{"involvedObject.uid": c.uid})
	slices.SortStableFunc(events.Items, func(a, b corev1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return events.Items, err
}

// eventsOf are the events on a claim with a reason.
func (f *fixture) eventsOf(c claim, reason string) []corev1.Event {
	f.Helper()
	return slices.DeleteFunc(f.Events(c), func(event corev1.Event) bool { return event.Reason != reason })
}

func describeEvents(events []corev1.Event) string {
	var texts []string
	for _, event := range events {
		texts = append(texts, event.Reason+": "+event.Message)
	}
	return strings.Join(texts, "; ")
}

// RequireNothingLeft waits until nothing of a claim's import is left but the claim itself, its import's
// record and, when it is bound, its volume.
func (f *fixture) RequireNothingLeft(c claim) {
	f.Helper()
	f.Eventually("nothing left", goneWithin, func(ctx context.Context) (bool, string, error) {
		left, err := f.leftovers(ctx, c.uid)
		if err != nil || len(left) > 0 {
			return false, strings.Join(left, "; "), err
		}
		pvc := &corev1.PersistentVolumeClaim{}
		err = f.Get(ctx, f.key(c.name), pvc)
		if apierrors.IsNotFound(err) || string(pvc.UID) != c.uid || pvc.Status.Phase != corev1.ClaimBound {
			return true, "", client.IgnoreNotFound(err)
		}
		held := slices.ContainsFunc(pvc.Finalizers, func(name string) bool { return strings.HasPrefix(name, "gild.dev/") })
		return !held, "the bound claim is held by " + strings.Join(pvc.Finalizers, ", "), err
	})
}

// DeleteClaim deletes a claim and waits until it is gone.
func (f *fixture) DeleteClaim(c claim) {
	f.Helper()
	require.NoError(f, f.Delete(f.ctx, f.PVC(c)))
	f.WaitGone(c)
}
