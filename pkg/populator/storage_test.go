package populator

import (
	"strings"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// storage is what the CSI driver of a world does.
type storage struct {
	// uncut never takes a snapshot, and unmade never makes a volume of one; failing says so in an event.
	// stuck keeps snapshots that are deleted.
	uncut, unmade, stuck bool
	failing              string
	// roomy makes volumes larger than asked for; static binds one that lay about.
	roomy  string
	static bool
	// silent has no exporter ever answer.
	silent bool
	// lateBinding waits for the first consumer.
	lateBinding bool
}

// playSnapshots does what the snapshot controller and the driver do.
func (w *world) playSnapshots() {
	ctx := w.t.Context()
	var all snapshotv1.VolumeSnapshotList
	require.NoError(w.t, w.store.List(ctx, &all))
	for i := range all.Items {
		s := &all.Items[i]
		if w.storage.stuck && len(s.Finalizers) == 0 {
			s.Finalizers = []string{"snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"}
			require.NoError(w.t, w.store.Update(ctx, s))
		}
		if s.Status != nil || w.storage.uncut {
			continue
		}
		require.NotEmpty(w.t, s.UID, s.Name)
		ref := corev1.ObjectReference{Kind: "VolumeSnapshot", Namespace: s.Namespace, Name: s.Name, UID: s.UID}
		content := &snapshotv1.VolumeSnapshotContent{}
		if name := s.Spec.Source.VolumeSnapshotContentName; name != nil {
			require.True(w.t, w.find(content, "", *name), "a snapshot without its content")
			content.Spec.VolumeSnapshotRef = ref
			require.NoError(w.t, w.store.Update(ctx, content))
		} else {
			claim := &corev1.PersistentVolumeClaim{}
			require.True(w.t, w.find(claim, s.Namespace, *s.Spec.Source.PersistentVolumeClaimName))
			content = &snapshotv1.VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "content-" + string(s.UID)},
				Spec: snapshotv1.VolumeSnapshotContentSpec{VolumeSnapshotRef: ref, Driver: testDriver, SourceVolumeMode: ptr.To(modeOf(claim.Spec.VolumeMode))}}
			content.Status = &snapshotv1.VolumeSnapshotContentStatus{SnapshotHandle: ptr.To("handle-" + string(s.UID))}
			require.NoError(w.t, w.store.Create(ctx, content))
		}
		s.Status = &snapshotv1.VolumeSnapshotStatus{BoundVolumeSnapshotContentName: &content.Name, ReadyToUse: ptr.To(true),
			CreationTime: ptr.To(metav1.NewTime(w.clock.Now())), RestoreSize: ptr.To(resource.MustParse("4Gi"))}
		require.NoError(w.t, w.store.Update(ctx, s))
	}
}

// playStorage makes the volume of PVC'.
func (w *world) playStorage() {
	ctx := w.t.Context()
	var claims corev1.PersistentVolumeClaimList
	require.NoError(w.t, w.store.List(ctx, &claims, client.InNamespace(systemNamespace)))
	for i := range claims.Items {
		prime := &claims.Items[i]
		if prime.Spec.VolumeName != "" || w.storage.lateBinding && !w.hasPod() {
			continue
		}
		if from := prime.Spec.DataSource; from != nil {
			snapshot := &snapshotv1.VolumeSnapshot{}
			if !w.find(snapshot, systemNamespace, from.Name) || snapshot.Status == nil || w.storage.unmade {
				if w.storage.failing != "" {
					w.provisioningFailed(prime)
				}
				continue
			}
		}
		prime.Spec.VolumeName = "pv-" + string(prime.UID)
		pv := volumeFor(prime)
		pv.CreationTimestamp = metav1.NewTime(w.clock.Now())
		if class := (&storagev1.StorageClass{}); w.find(class, "", *prime.Spec.StorageClassName) {
			pv.Annotations[annotationProvisionedBy], pv.Spec.CSI.Driver = class.Provisioner, class.Provisioner
		}
		if w.storage.roomy != "" {
			pv.Spec.Capacity[corev1.ResourceStorage] = resource.MustParse(w.storage.roomy)
		}
		if w.storage.static && prime.Spec.DataSource != nil {
			delete(pv.Annotations, annotationProvisionedBy)
		}
		require.NoError(w.t, w.store.Create(ctx, pv))
		require.NoError(w.t, w.store.Update(ctx, prime))
	}
}

// playExporters has the exporters of volumes answer.
func (w *world) playExporters() {
	var pods corev1.PodList
	require.NoError(w.t, w.store.List(w.t.Context(), &pods, client.HasLabels{"gild.dev/export"}))
	for i := range pods.Items {
		pod := &pods.Items[i]
		if w.storage.silent || len(pod.Status.Conditions) > 0 {
			continue
		}
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
		require.NoError(w.t, w.store.Status().Update(w.t.Context(), pod))
	}
}

func (w *world) provisioningFailed(prime *corev1.PersistentVolumeClaim) {
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "failed-" + string(prime.UID)}}
	if w.find(event, systemNamespace, event.Name) {
		return
	}
	now := metav1.NewTime(w.clock.Now())
	event.InvolvedObject.UID, event.Reason, event.Message = prime.UID, "ProvisioningFailed", w.storage.failing
	event.FirstTimestamp, event.LastTimestamp = now, now
	require.NoError(w.t, w.store.Create(w.t.Context(), event))
}

// hasPod reports whether an importer pod waits for its volume.
func (w *world) hasPod() bool {
	var pods corev1.PodList
	require.NoError(w.t, w.store.List(w.t.Context(), &pods, client.InNamespace(systemNamespace)))
	return len(pods.Items) > 0
}

// bound reports whether an importer pod could run: PVC' has its volume.
func (storage) bound(w *world, job *batchv1.Job) bool {
	prime := &corev1.PersistentVolumeClaim{}
	return !w.find(prime, systemNamespace, primeName(types.UID(job.Labels[labelClaimUID]))) || prime.Spec.VolumeName != ""
}

// snapshotNames are the names of all VolumeSnapshots, with their namespaces.
func (w *world) snapshotNames() []string {
	var all snapshotv1.VolumeSnapshotList
	require.NoError(w.t, w.store.List(w.t.Context(), &all))
	var names []string
	for i := range all.Items {
		names = append(names, all.Items[i].Namespace+"/"+all.Items[i].Name)
	}
	return names
}

// requireNoTemporarySnapshots checks that no snapshot of an import is left, nor its content.
func (w *world) requireNoTemporarySnapshots() {
	w.t.Helper()
	for _, name := range w.snapshotNames() {
		require.NotContains(w.t, name, "/copy-")
		require.NotContains(w.t, name, "/reuse-")
	}
	var contents snapshotv1.VolumeSnapshotContentList
	require.NoError(w.t, w.store.List(w.t.Context(), &contents))
	for _, content := range contents.Items {
		require.False(w.t, strings.HasPrefix(content.Name, "copy-"), content.Name)
	}
}

func snapshotClass() *snapshotv1.VolumeSnapshotClass {
	return &snapshotv1.VolumeSnapshotClass{ObjectMeta: metav1.ObjectMeta{Name: "snaps"}, Driver: testDriver, DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete}
}

// keptSnapshot is the snapshot of a golden claim that its roll has kept, and its content.
func keptSnapshot(claim types.UID, of string) []client.Object {
	name := goldenSnapshotName(claim)
	return []client.Object{
		&snapshotv1.VolumeSnapshot{
			ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: name, UID: "kept-uid",
				Labels:      map[string]string{labelManagedBy: managedByPopulator, labelGoldenUID: string(claim), "gild.dev/snapshot": "taken"},
				Annotations: map[string]string{annotationClaim: of, annotationVouched: "true"}},
			Status: &snapshotv1.VolumeSnapshotStatus{BoundVolumeSnapshotContentName: ptr.To("kept"), ReadyToUse: ptr.To(true), RestoreSize: ptr.To(resource.MustParse("4Gi"))},
		},
		&snapshotv1.VolumeSnapshotContent{ObjectMeta: metav1.ObjectMeta{Name: "kept"}, Spec: snapshotv1.VolumeSnapshotContentSpec{
			Driver: testDriver, SourceVolumeMode: ptr.To(corev1.PersistentVolumeFilesystem),
			VolumeSnapshotRef: corev1.ObjectReference{Namespace: systemNamespace, Name: name, UID: "kept-uid"}}},
	}
}
