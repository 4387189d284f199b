package populator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	populatormachinery "github.com/kubernetes-csi/lib-volume-populator/v3/populator-machinery"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/discovery"
	kubeinformers "k8s.io/client-go/informers"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// machinery runs lib-volume-populator for one kind. The library makes PVC', hands its volume over
// and removes PVC'; all it asks of us is when. It is called again and again, also for claims that
// have been bound for years, so nothing here does more than read our record.
//
// It is kept within bounds: it has no leader election (it runs under our
// leader), polls with a back-off of up to 16 minutes (our queue is capped and woken), emits events
// with every update (our recorder drops them) and always makes PVC' again (the mutator is the gate).
//
// One process runs it once for each kind. What it keeps is its own each time: clients, informers, queue, registry
// of metrics. It passes over the claims of other kinds, and a claim cannot change its kind; so the two, which use
// the same finalizer and the same name of PVC', never meet at one claim. Each has a signal handler, as we have,
// and all of them stop at the first signal.
type machinery struct {
	kind       *kind
	kubeconfig string
	discovery  discovery.DiscoveryInterface
	events     *eventRecorder
	remains
	snapshots snapshots
	grants    grants
	leaders   *leaders
	queue     workqueue.TypedRateLimitingInterface[any]
	// arrived starts what else needs the kind, once it is there.
	arrived func() error
}

const (
	// firstPoll and lastPoll bound how often the library asks whether an import is complete. The
	// import controller wakes it when one is, so this only covers a missed call.
	firstPoll = 500 * time.Millisecond
	lastPoll  = 15 * time.Second
	// kindRetry is how often a missing kind is looked for. The library would wait for it in
	// silence, and end the process at a signal.
	kindRetry = 5 * time.Second
	// kindCheck is how often a kind is looked at once it is decided whose it is.
	kindCheck = 30 * time.Second
)

func newLibraryQueue() workqueue.TypedRateLimitingInterface[any] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[any](firstPoll, lastPoll))
}

// wake makes the library look at a claim now. One of another kind it passes over.
func (m *machinery) wake(claim types.NamespacedName) {
	if m.kind.presence() != presenceOurs {
		return
	}
	key := "pvc/" + claim.String()
	m.queue.Forget(key)
	m.queue.Add(key)
}

// NeedLeaderElection makes the library the leader's.
func (m *machinery) NeedLeaderElection() bool { return true }

// Start runs the library until ctx ends, as soon as its kind is there and ours. The library stops by its own
// signal handler; on a lost lease the process ends, since there is no other way to stop it without a panic.
func (m *machinery) Start(ctx context.Context) error {
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		found, err := m.look(ctx)
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Looking for the CustomResourceDefinition", "kind", m.kind.name)
			wait = kindRetry
			continue
		}
		if wait = kindCheck; found == presenceAbsent {
			wait = kindRetry
		}
		turned, err := m.kind.turn(found)
		if err != nil {
			return err
		}
		if !turned {
			continue
		}
		ctrl.LoggerFrom(ctx).Info(found.String(), "kind", m.kind.name, "install", m.kind.install)
		if found == presenceOurs {
			if err := m.arrived(); err != nil {
				return fmt.Errorf("watching the kind %s: %w", m.kind.name, err)
			}
			go m.run(ctx)
		}
	}
}

// look finds out whose a kind is.
func (m *machinery) look(ctx context.Context) (presence, error) {
	if m.kind.foreign != nil {
		if foreign, err := m.kind.foreign(ctx, m.live); foreign || err != nil {
			return presenceForeign, err
		}
	}
	resources, err := m.discovery.ServerResourcesForGroupVersion(m.kind.resource.GroupVersion().String())
	switch {
	case apierrors.IsNotFound(err):
		return presenceAbsent, nil
	case err != nil:
		return presenceUnknown, err
	case slices.ContainsFunc(resources.APIResources, func(r metav1.APIResource) bool { return r.Name == m.kind.resource.Resource }):
		return presenceOurs, nil
	}
	return presenceAbsent, nil
}

func (m *machinery) run(ctx context.Context) {
	populatormachinery.RunControllerWithConfig(populatormachinery.VolumePopulatorConfig{
		Kubeconfig: m.kubeconfig,
		Namespace:  m.namespace,
		Prefix:     Prefix,
		Gk:         schema.GroupKind{Group: m.kind.resource.Group, Kind: m.kind.name},
		Gvr:        m.kind.resource,
		Workqueue:  m.queue,
		Recorder:   m.events,
		MutatorConfig: &populatormachinery.MutatorConfig{PvcPrimeMutator: func(p populatormachinery.PvcPrimeMutatorParams) (*corev1.PersistentVolumeClaim, error) {
			return m.mutate(ctx, p.PvcPrime)
		}},
		ProviderFunctionConfig: &populatormachinery.ProviderFunctionConfig{
			PopulateCompleteFn: m.complete,
			PopulateCleanupFn:  m.cleanUp,
		},
		SharedInformerOptions: []kubeinformers.SharedInformerOption{kubeinformers.WithTransform(trim)},
	})
}

// quietLibrary keeps what the library calls errors and we call waiting out of the log: it reports
// each time it asks in vain, for every claim, through the process's one list of error handlers. Call it
// before anything runs.
func quietLibrary() {
	for i, handle := range utilruntime.ErrorHandlers {
		utilruntime.ErrorHandlers[i] = func(ctx context.Context, err error, message string, keysAndValues ...any) {
			if err != nil && (strings.Contains(err.Error(), errNotNow.Error()) || strings.Contains(err.Error(), "in work queue no longer exists")) {
				return
			}
			handle(ctx, err, message, keysAndValues...)
		}
	}
}

// errNotNow keeps PVC' from being made. The library asks again.
var errNotNow = errors.New("the claim's import does not want a volume now")

// mutate is the gate: PVC' is made only for an import that wants to write to it. It also adds what
// the library leaves out.
func (m *machinery) mutate(ctx context.Context, prime *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	claim, err := m.claimOfPrime(ctx, prime.Name)
	if err != nil {
		return nil, err
	}
	imp, err := m.importOf(ctx, claim)
	if err != nil {
		return nil, err
	}
	if imp == nil || !imp.DeletionTimestamp.IsZero() || ended(imp) || claim.Spec.VolumeName != "" {
		return nil, errNotNow
	}
	if mayReuse(imp) && !begun(imp) && imp.Status.Reuses == nil && !m.leaders.has(reuseKey(imp), claimOf(imp)) {
		return nil, errNotNow // nobody knows yet whether it is restored
	}
	if isCopy(imp) && imp.Status.Strategy != v1alpha1.StrategyCopy || follows(imp) {
		if err := m.restoreFrom(ctx, prime, imp); err != nil {
			return nil, err
		}
	}
	return shapePrime(prime, claim), nil
}

// restoreFrom has the storage make the volume of PVC' from the snapshot that the import was prepared with.
func (m *machinery) restoreFrom(ctx context.Context, prime *corev1.PersistentVolumeClaim, imp *v1alpha1.VMDiskImport) error {
	if imp.Status.Strategy != v1alpha1.StrategySnapshot {
		return errNotNow
	}
	name, err := snapshotOf(ctx, m.snapshots, m.namespace, imp)
	if err != nil {
		return err
	}
	if name == "" {
		return errNotNow
	}
	if waiting, err := mayNotCopy(ctx, m.grants, imp); err != nil || waiting != nil {
		return cmp.Or(err, errNotNow)
	}
	prime.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ptr.To(snapshotGroup), Kind: v1alpha1.CopyOfSnapshot, Name: name}
	return nil
}

// shapePrime completes PVC'.
func shapePrime(prime, claim *corev1.PersistentVolumeClaim) *corev1.PersistentVolumeClaim {
	prime.Labels = importLabels(claim.UID)
	prime.Labels["velero.io/exclude-from-backup"] = "true"
	if prime.Annotations == nil {
		prime.Annotations = map[string]string{}
	}
	prime.Annotations[annotationClaim] = claim.Namespace + "/" + claim.Name
	if wantsImmediate(claim) {
		// The importer pod is the first consumer: the scheduler chooses the node.
		delete(prime.Annotations, annotationSelectedNode)
	}
	prime.Spec.VolumeAttributesClassName = claim.Spec.VolumeAttributesClassName
	if len(prime.Spec.AccessModes) == 1 && prime.Spec.AccessModes[0] == corev1.ReadOnlyMany {
		// A volume that can only be read cannot be filled.
		prime.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce, corev1.ReadOnlyMany}
	}
	return prime
}

// complete reports whether the disk is on PVC's volume: on this very PVC', not one of its name, and
// on a volume that is still its own. Whoever may copy no longer gets no copy.
func (m *machinery) complete(ctx context.Context, p populatormachinery.PopulatorParams) (bool, error) {
	imp, err := m.importOf(ctx, p.Pvc)
	if err != nil || imp == nil || !handOverDue(imp, p.PvcPrime) {
		return false, err
	}
	if isCopy(imp) || p.PvcPrime.Spec.DataSource != nil {
		waiting, err := mayNotCopy(ctx, m.grants, imp)
		if err != nil {
			return false, err
		}
		if waiting != nil {
			m.events.Event(p.Pvc, corev1.EventTypeWarning, waiting.reason, waiting.message)
			return false, nil
		}
	}
	pv := &corev1.PersistentVolume{}
	if err := m.live.Get(ctx, types.NamespacedName{Name: p.PvcPrime.Spec.VolumeName}, pv); err != nil {
		return false, fmt.Errorf("reading volume %s: %w", p.PvcPrime.Spec.VolumeName, err)
	}
	return pv.Name == imp.Status.VolumeName && (boundTo(pv, p.PvcPrime) || boundTo(pv, p.Pvc)), nil
}

// handOverDue reports whether an import has filled this PVC'. Deleting the import does not call it off.
func handOverDue(imp *v1alpha1.VMDiskImport, prime *corev1.PersistentVolumeClaim) bool {
	return imp.Status.Phase == v1alpha1.PhaseSucceeded && prime != nil &&
		prime.UID == imp.Status.TargetUID && prime.DeletionTimestamp.IsZero() && prime.Spec.VolumeName != ""
}

// cleanUp is asked before the library removes PVC' and its finalizer. It is also called with every
// update of a bound claim, then there is nothing to do.
func (m *machinery) cleanUp(_ context.Context, p populatormachinery.PopulatorParams) error {
	if p.PvcPrime != nil && p.Pvc.DeletionTimestamp != nil {
		// The claim controller stops the import, then removes PVC' and the finalizer itself.
		return errNotNow
	}
	return nil
}

// claimOfPrime finds the claim that a PVC' is for, by the UID in its name.
func (m *machinery) claimOfPrime(ctx context.Context, prime string) (*corev1.PersistentVolumeClaim, error) {
	uid := strings.TrimPrefix(prime, primeName(""))
	var claims corev1.PersistentVolumeClaimList
	if err := m.client.List(ctx, &claims, client.MatchingFields{indexUID: uid}); err != nil {
		return nil, fmt.Errorf("finding the claim of %s: %w", prime, err)
	}
	if len(claims.Items) != 1 {
		return nil, errNotNow
	}
	return &claims.Items[0], nil
}

// importOf reads a claim's import from our cache; nil when it has none of its own.
func (m *machinery) importOf(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*v1alpha1.VMDiskImport, error) {
	imp := &v1alpha1.VMDiskImport{}
	if err := m.client.Get(ctx, client.ObjectKeyFromObject(claim), imp); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if !owns(claim, imp) {
		return nil, nil
	}
	return imp, nil
}

// trim drops what the library's informers hold and never read: it watches every pod of the cluster.
func trim(object any) (any, error) {
	if pod, ok := object.(*corev1.Pod); ok {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		}}, nil
	}
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	return object, nil
}
