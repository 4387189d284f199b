package roller

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// keepByDefault is how many golden claims are kept when the cron does not say.
const keepByDefault = 3

// outdatedClaims are the steps that leave as many golden claims as the cron keeps: the current one,
// which always counts, and those used last.
func (d *decision) outdatedClaims(current *goldenClaim) []step {
	spec := &d.world.cron.Spec
	if ptr.Deref(spec.GarbageCollect, cdiv1.DataImportCronGarbageCollectOutdated) == cdiv1.DataImportCronGarbageCollectNever {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(d.claims), func(c *goldenClaim) bool {
		return c == current || !c.verified() || c.going() || c.worthless()
	})
	slices.SortStableFunc(others, func(a, b *goldenClaim) int {
		return cmp.Or(d.lastUse(b).Compare(d.lastUse(a)), cmp.Compare(a.Name, b.Name))
	})
	keep := max(int(ptr.Deref(spec.ImportsToKeep, keepByDefault)), 1) - 1
	var steps []step
	for _, claim := range others[min(keep, len(others)):] {
		steps = append(steps, step{do: pruneClaim, seen: claim, tell: event{corev1.EventTypeNormal, eventPruned,
			fmt.Sprintf("golden claim %s is outdated and was deleted: %d are kept", claim.Name, keep+1)}})
	}
	return steps
}

// users is who may use golden claims of one namespace.
type users struct {
	claims      []corev1.PersistentVolumeClaim
	imports     []v1alpha1.VMDiskImport
	pods        []corev1.Pod
	dataSources []cdiv1.DataSource
}

// of names somebody who uses a golden claim; empty when nobody does. The cron's own DataSource counts:
// if that still names the claim, our view is behind.
func (u *users) of(golden *corev1.PersistentVolumeClaim) string {
	for i := range u.claims {
		if claim := &u.claims[i]; claim.Status.Phase != corev1.ClaimBound && clones(claim, golden) {
			return "claim " + claim.Namespace + "/" + claim.Name
		}
	}
	for i := range u.imports {
		if imp := &u.imports[i]; copies(imp, golden) {
			return "VMDiskImport " + imp.Namespace + "/" + imp.Name
		}
	}
	for i := range u.pods {
		if pod := &u.pods[i]; mounts(pod, golden) {
			return "pod " + pod.Name
		}
	}
	for i := range u.dataSources {
		source := &u.dataSources[i]
		pvc := source.Spec.Source.PVC
		if pvc != nil && pvc.Name == golden.Name && cmp.Or(pvc.Namespace, source.Namespace) == golden.Namespace {
			return "DataSource " + source.Namespace + "/" + source.Name
		}
	}
	return ""
}

// clones reports whether a claim is a copy of another one.
func clones(claim, of *corev1.PersistentVolumeClaim) bool {
	if ref := claim.Spec.DataSourceRef; ref != nil && ref.Kind == "PersistentVolumeClaim" && ptr.Deref(ref.APIGroup, "") == "" {
		return ref.Name == of.Name && ptr.Deref(ref.Namespace, claim.Namespace) == of.Namespace
	}
	ref := claim.Spec.DataSource
	return ref != nil && ref.Kind == "PersistentVolumeClaim" && ptr.Deref(ref.APIGroup, "") == "" && ref.Name == of.Name && claim.Namespace == of.Namespace
}

// copies reports whether an import that has not ended copies a claim. One of another namespace needs the
// claim no longer once it has its snapshot, and mounts it while it reads it.
func copies(imp *v1alpha1.VMDiskImport, of *corev1.PersistentVolumeClaim) bool {
	source := imp.Spec.CopyOf
	return source != nil && source.Kind == v1alpha1.CopyOfClaim && source.Namespace == of.Namespace && source.Name == of.Name &&
		imp.Status.Phase != v1alpha1.PhaseSucceeded && imp.Status.Phase != v1alpha1.PhaseFailed
}

// mounts reports whether a pod that has not ended mounts a claim.
func mounts(pod *corev1.Pod, claim *corev1.PersistentVolumeClaim) bool {
	if pod.Namespace != claim.Namespace || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return false
	}
	return slices.ContainsFunc(pod.Spec.Volumes, func(volume corev1.Volume) bool {
		return volume.PersistentVolumeClaim != nil && volume.PersistentVolumeClaim.ClaimName == claim.Name
	})
}
