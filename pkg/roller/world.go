package roller

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/claimshape"
	"github.com/gild-project/gild/pkg/golden"
)

// world is what is known of one cron at one moment.
type world struct {
	cron *cdiv1.DataImportCron
	// desired is the revision that the cron should have; nil while there is none, or while the
	// poller has yet to find out how to import it.
	desired *golden.Revision
	// undecided says why desired is nil.
	undecided string
	// imported is the revision that was imported last; nil when none was.
	imported *golden.Revision
	// claims are the golden claims of the cron.
	claims []*goldenClaim
	// left are claims that CDI has made and filled for the cron, and that are not taken over yet.
	left []*goldenClaim
	// snapshot is the one that CDI has left in place of a golden claim, and that the DataSource names; empty when
	// there is none, or it is not ready.
	snapshot string
	// taken are the names among those a golden claim may get that other claims bear.
	taken []string
	// dataSource is the one that the cron manages; nil when there is none.
	dataSource *cdiv1.DataSource
	// former are the DataSources that the cron has managed before it was edited.
	former []*cdiv1.DataSource
	// rival is another cron that manages the DataSource; empty when there is none.
	rival string
	// class is the StorageClass that golden claims should have; empty when there is none.
	class string
	// profile is that of the class; nil when there is none.
	profile *cdiv1.StorageProfile
	// config says what file systems need; nil when there is none.
	config *cdiv1.CDIConfig
	// origin is the claim that is copied; nil when the source is none, or is gone.
	origin *corev1.PersistentVolumeClaim
	now    time.Time
	// since is when the roller has begun: crons that are older may have had nobody to poll them.
	since time.Time
}

// firstPoll is how long a cron that nobody has polled yet is left alone. Its first poll brings our finalizer
// along, and says more than we could.
const firstPoll = time.Minute

// awaited is how long to wait for the first poll of a cron; 0 when it was made, or none is to come.
func (w *world) awaited() time.Duration {
	if w.cron.Spec.Schedule == "" || w.cron.Annotations[golden.AnnotationDesiredDigest] != "" || len(w.cron.Status.Conditions) > 0 {
		return 0
	}
	from := w.cron.CreationTimestamp.Time
	if from.Before(w.since) {
		from = w.since
	}
	return max(0, from.Add(firstPoll).Sub(w.now))
}

// claim is the golden claim of a name; nil when there is none.
func (w *world) claim(name string) *goldenClaim {
	i := slices.IndexFunc(w.claims, func(c *goldenClaim) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return w.claims[i]
}

// current is the last good golden claim: that of the cron's status, or of its DataSource when
// the cron was made anew; nil when there is none.
func (w *world) current() *goldenClaim {
	if last := w.cron.Status.LastImportedPVC; last != nil && last.Namespace == w.cron.Namespace {
		if claim := w.claim(last.Name); claim != nil && claim.good() {
			return claim
		}
	}
	if w.dataSource != nil && w.dataSource.Spec.Source.PVC != nil && w.dataSource.Spec.Source.PVC.Namespace == w.cron.Namespace {
		if claim := w.claim(w.dataSource.Spec.Source.PVC.Name); claim != nil && claim.good() {
			return claim
		}
	}
	return nil
}

// holder is a good claim on the wanted class that holds the desired revision, or the same bytes;
// nil when there is none.
func (w *world) holder() *goldenClaim {
	current := w.current()
	if current != nil && w.onClass(current) && (w.holds(current, w.desired) || w.isLast(current) && w.isImported(w.desired)) {
		return current
	}
	var best *goldenClaim
	for _, claim := range w.claims {
		if claim.good() && w.holds(claim, w.desired) && w.onClass(claim) && (best == nil || w.lastUse(claim).After(w.lastUse(best))) {
			best = claim
		}
	}
	return best
}

// facts are what the shape of a golden claim on a class depends on besides the template.
func (w *world) facts(class string) claimshape.Facts {
	facts := claimshape.Facts{Profile: w.profile, Overhead: claimshape.OverheadFor(w.config, class)}
	facts.SingleWriter = w.profile != nil && w.profile.Annotations[annotationSingleWriter] == "true"
	if w.origin != nil {
		facts.Origin = claimshape.OriginOf(w.origin)
	}
	return facts
}

// isLast reports whether a claim is the one that the last import has led to. One that the DataSource
// was pointed to meanwhile holds what it holds.
func (w *world) isLast(claim *goldenClaim) bool {
	last := w.cron.Status.LastImportedPVC
	return last != nil && last.Namespace == claim.Namespace && last.Name == claim.Name
}

// isImported reports whether the import of a revision has succeeded last.
func (w *world) isImported(revision *golden.Revision) bool {
	return w.imported != nil && w.imported.Digest == revision.Digest
}

// onClass reports whether a claim has the wanted class. When none is wanted, any will do. One that CDI has made
// stays where it is unless the template says otherwise: CDI may have found the default in another way.
func (w *world) onClass(claim *goldenClaim) bool {
	if w.class == "" || claim.class() == w.class {
		return true
	}
	_, isNamed := claimshape.NamedClass(&w.cron.Spec.Template.Spec)
	return claim.adopted() && !isNamed
}

// pending is the claim that the desired revision is being imported to; nil when there is none, or
// when it was made for another class, size or source than is wanted now.
func (w *world) pending() *goldenClaim {
	for _, claim := range w.claims {
		if claim.verified() || claim.going() || claim.worthless() || claim.revision.Digest != w.desired.Digest || !w.onClass(claim) {
			continue
		}
		if _, filled := claim.result(); filled {
			return claim
		}
		wanted, err := claimFor(w.cron, w.desired, claim.class(), w.facts(claim.class()))
		if err == nil && sameImport(claim.revision, w.desired) && sameShape(claim.PersistentVolumeClaim, wanted) {
			return claim
		}
	}
	return nil
}

// newestUse is when any golden claim but one became the current one last.
func (w *world) newestUse(but *goldenClaim) time.Time {
	var newest time.Time
	for _, claim := range w.claims {
		if at := w.lastUse(claim); claim != but && at.After(newest) {
			newest = at
		}
	}
	return newest
}

// clockSkew is how far ahead of us the clock may have been that a use was written with.
const clockSkew = time.Minute

// lastUse is when a claim last became the current one; zero when it never did, or at a time that is
// still to come: nothing could be newer than that.
func (w *world) lastUse(claim *goldenClaim) time.Time {
	at, err := time.Parse(time.RFC3339Nano, claim.Annotations[golden.AnnotationLastUseTime])
	if err != nil || at.After(w.now.Add(clockSkew)) {
		return time.Time{}
	}
	return at
}
