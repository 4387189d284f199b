package roller

import (
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// CDI does not write on a claim which revision that holds: only twelve digits of the digest are in its name. Of an image
// for several platforms that is the digest of the index. So a claim that is taken over gets its own UID for a
// revision first, and another one once a revision is desired that its name goes with.

// namePattern is the end of the name of a claim that CDI has made.
const namePattern = `^-[0-9a-f]{8}[0-9a-f-][0-9a-f]{3}$`

// isLeft reports whether CDI has made and filled a claim for a cron. Only a cron that CDI has brought to something, and
// we to nothing yet, takes claims over: whatever bears its label later was made by somebody else.
func isLeft(w *world, claim *corev1.PersistentVolumeClaim) bool {
	if w.imported != nil || w.cron.Status.LastImportedPVC == nil {
		return false
	}
	end, isNamed := strings.CutPrefix(claim.Name, w.cron.Spec.ManagedDataSource)
	isDigest, err := regexp.MatchString(namePattern, end)
	return err == nil && isNamed && isDigest && claim.Annotations[golden.AnnotationRevision] == "" &&
		claim.DeletionTimestamp.IsZero() && claim.Status.Phase == corev1.ClaimBound && !golden.IsInterrupted(claim) &&
		!golden.IsFilledByUs(claim) // a copy for a user may bear the label, too
}

// adopt takes over what CDI has left; it returns whether that has to be done first.
func (d *decision) adopt() bool {
	for _, claim := range d.left {
		d.add(step{do: adoptClaim, seen: claim, tell: event{corev1.EventTypeNormal, eventAdopted,
			fmt.Sprintf("golden claim %s, which CDI has left, is kept as it is", claim.Name)},
			claim: claim.with(map[string]string{
				golden.AnnotationRevision: (&golden.Revision{Digest: ownDigest(claim)}).String(),
				golden.AnnotationVerified: golden.FilledByCDI,
			})})
	}
	return len(d.left) > 0
}

// ownDigest names whatever a claim holds.
func ownDigest(claim *goldenClaim) string { return golden.PrefixUID + string(claim.UID) }

// holds reports whether a claim holds a revision.
func (w *world) holds(claim *goldenClaim, revision *golden.Revision) bool {
	if claim.revision.Digest == revision.Digest {
		return true
	}
	// Once the image for the platform is known, the index says nothing more: the platform may have been edited.
	isOpen := claim.revision.Digest == ownDigest(claim) || w.names(claim.Name, claim.revision.Digest)
	return claim.adopted() && isOpen && w.goesWith(claim.Name, revision)
}

// names reports whether the golden claim of a digest has a name.
func (w *world) names(name, digest string) bool {
	return digest != "" && golden.ClaimName(w.cron.Spec.ManagedDataSource, digest) == name
}

// goesWith reports whether a claim or snapshot of a name was made of a revision, by CDI.
func (w *world) goesWith(name string, revision *golden.Revision) bool {
	return w.names(name, revision.Digest) || w.names(name, revision.Index)
}

// tie notes on a claim that was taken over that it holds the desired revision; done is false while that is under way.
func (d *decision) tie(target *goldenClaim) (done bool) {
	if !target.adopted() || target.revision.Digest == d.desired.Digest || !d.holds(target, d.desired) {
		return true
	}
	d.add(step{do: adoptClaim, seen: target, claim: target.with(map[string]string{golden.AnnotationRevision: d.desired.String()})})
	return false
}

// inSnapshot reports whether CDI has left the desired revision as a snapshot, which the DataSource names.
func (w *world) inSnapshot() bool {
	switch {
	case w.snapshot == "":
		return false
	case w.imported != nil && !w.names(w.snapshot, w.imported.Digest):
		return w.isImported(w.desired)
	}
	return w.goesWith(w.snapshot, w.desired)
}

// rest has the cron's status say that the snapshot holds what is desired. The next revision is a claim again.
func (d *decision) rest() {
	status := &d.plan.cron.Status
	status.CurrentImports = []cdiv1.ImportStatus{{DataVolumeName: d.snapshot, Digest: d.desired.Digest}}
	metav1.SetMetaDataAnnotation(&d.plan.cron.ObjectMeta, golden.AnnotationImported, d.desired.String())
	delete(d.plan.cron.Annotations, annotationSourceChanges)
	d.progressing(corev1.ConditionFalse, reasonNoImport, messageNoImport)
	d.upToDate(corev1.ConditionTrue, reasonUpToDate, messageUpToDate)
}

// wasUpToDate reports whether CDI has left the cron with the digest that is asked for imported.
func (d *decision) wasUpToDate() bool {
	cron := d.world.cron
	current := cron.Status.CurrentImports
	return d.imported == nil && len(current) > 0 && current[0].Digest == cron.Annotations[golden.AnnotationDesiredDigest] && !outdated(cron)
}

// dataVolumeOf is the reference to the DataVolume that a claim belongs to; nil when it belongs to none.
func dataVolumeOf(claim *corev1.PersistentVolumeClaim) *metav1.OwnerReference {
	owner := metav1.GetControllerOf(claim)
	if owner == nil || owner.Kind != "DataVolume" || !strings.HasPrefix(owner.APIVersion, golden.Group+"/") {
		return nil
	}
	return owner
}
