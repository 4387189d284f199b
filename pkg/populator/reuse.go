package populator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/importer"
)

// One download for many: of the imports of one VMDiskImage that want to begin at the same time one leads, and
// downloads it. The others follow: they wait for the leader, and are restored from a snapshot of its volume that is
// taken before anybody else can write to that. A leader never waits for another import, so that no two wait for
// each other; one that does not get on frees its followers.

// followEvery is how often a follower looks at its leader.
const followEvery = 2 * time.Second

// mayReuse reports whether an import may lead others or follow one. One that has passed over Snapshot has found that it
// cannot, and does neither.
func mayReuse(imp *v1alpha1.VMDiskImport) bool {
	source := &imp.Spec.Source
	files := source.Registry != nil && source.Registry.Content == v1alpha1.ImageContentFiles
	return kindOf(imp) == kindImage && imp.Spec.CopyOf == nil && imp.Spec.Reuse != v1alpha1.ReuseNever &&
		!pulledByNode(source) && !files && source.Blank == nil && !hasPassedOver(imp, v1alpha1.StrategySnapshot)
}

// follows reports whether an import gets the disk of another one, or waits for it.
func follows(imp *v1alpha1.VMDiskImport) bool {
	return imp.Status.Reuses != nil && kindOf(imp) == kindImage && imp.Spec.CopyOf == nil && imp.Status.Strategy != v1alpha1.StrategyImport
}

// restoresReused reports whether it gets that by now.
func restoresReused(imp *v1alpha1.VMDiskImport) bool {
	return follows(imp) && imp.Status.Strategy == v1alpha1.StrategySnapshot
}

// reuseKey is the same for imports of one namespace that do the same, for whatever claim.
func reuseKey(imp *v1alpha1.VMDiskImport) string {
	spec := withDefaults(&imp.Spec)
	spec.ClaimRef = v1alpha1.ClaimReference{}
	// What came from the API server as JSON can be written as such.
	text, _ := json.Marshal(struct {
		Namespace string
		Spec      *v1alpha1.VMDiskImportSpec
		Resolved  string
	}{imp.Namespace, spec, imp.Status.ResolvedReference})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// pinOf is what others can know the revision by that an import has found. ok is false when nothing would tell it from
// another one. A checksum is in the spec: then it is enough that the source can be opened.
func pinOf(spec *v1alpha1.VMDiskImportSpec, found *v1alpha1.ImportResult) (pin *v1alpha1.Pin, ok bool) {
	switch {
	case spec.Source.HTTP == nil:
		return &v1alpha1.Pin{Digest: found.Digest}, found.Digest != ""
	case found.ETag != "" && !strings.HasPrefix(found.ETag, "W/"):
		return &v1alpha1.Pin{ETag: found.ETag, LastModified: found.LastModified}, true
	case found.LastModified != "":
		return &v1alpha1.Pin{LastModified: found.LastModified}, true
	}
	return nil, spec.Checksum != ""
}

// verifiable reports whether others can prove that their source has what an import has brought.
func verifiable(imp *v1alpha1.VMDiskImport) bool {
	if imp.Status.Result == nil {
		return false
	}
	_, ok := pinOf(&imp.Spec, imp.Status.Result)
	return ok
}

// attempting reports whether an attempt has been made that has not ended.
func attempting(imp *v1alpha1.VMDiskImport) bool {
	return imp.Status.Attempts > 0 && imp.Status.NextAttemptTime == nil
}

// gettingOn reports whether an import downloads what the key stands for, or is about to, so that others may wait for it.
func (l *leaders) gettingOn(key string, imp *v1alpha1.VMDiskImport, now time.Time) bool {
	s, claim := &imp.Status, claimOf(imp)
	switch {
	case !imp.DeletionTimestamp.IsZero() || ended(imp) || s.Reuses != nil || !mayReuse(imp) || reuseKey(imp) != key:
		return false
	case s.Result != nil: // a pod on a node that is away could hold up its end
		return now.Sub(s.Result.Time.Time) < endPatience
	case !attempting(imp):
		return l.holds(key, claim, now)
	case s.Phase == v1alpha1.PhaseImporting || s.Phase == v1alpha1.PhaseVerifying:
		return true
	}
	ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
	return ready != nil && (ready.Reason == reasonStarting || ready.Reason == reasonWaitingForVolume) && l.starting(key, claim, now)
}

// leave gives up an import's place, and what it leads.
func (c *importController) leave(claim types.NamespacedName) {
	c.queue.leave(claim)
	c.leaders.leave(claim)
}

// share has an import that is about to begin follow another one, if there is one that it can follow, or lead. It
// reports whether the import waits.
func (c *importController) share(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (waits bool, err error) {
	if !mayReuse(imp) {
		return false, nil
	}
	if imp.Status.Reuses != nil {
		return true, c.await(ctx, imp, claim)
	}
	class, err := c.classNow(ctx, claim)
	if err != nil || class == nil {
		return false, err
	}
	key := reuseKey(imp)
	took := c.leaders.take(key, claimOf(imp), c.clock.Now())
	leader, err := c.leaderFor(ctx, imp, claim, class)
	switch {
	case err != nil:
		return false, err
	case leader != nil:
		return true, c.follow(ctx, imp, leader)
	case !took: // beside one that it cannot follow
		c.leaders.join(key, claimOf(imp), c.clock.Now())
	}
	return false, nil
}

// leaderFor finds the import that a claim of class can follow; nil when there is none. One that has its result is about to end: whether it is
// waited for has been asked by then.
func (c *importController) leaderFor(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass) (*v1alpha1.VMDiskImport, error) {
	var all v1alpha1.VMDiskImportList
	err := c.client.List(ctx, &all, client.InNamespace(imp.Namespace), client.MatchingFields{indexImportSource: sourceKey(kindImage, imp.Spec.ImageRef.Name)})
	if err != nil {
		return nil, fmt.Errorf("listing the imports of %s: %w", describeSource(&imp.Spec.ImageRef), err)
	}
	key, now := reuseKey(imp), c.clock.Now()
	for i := range all.Items {
		other := &all.Items[i]
		if other.UID == imp.UID || other.Status.Result != nil || !c.leaders.gettingOn(key, other, now) {
			continue
		}
		why, err := c.cannotFollow(ctx, claim, class, other)
		if err != nil {
			return nil, err
		}
		if why == "" {
			return other, nil
		}
	}
	return nil, nil
}

// claimOfLeader is the claim that a leader fills; nil when it fills none.
func (c *importController) claimOfLeader(ctx context.Context, leader *v1alpha1.VMDiskImport) (*corev1.PersistentVolumeClaim, error) {
	claim := &corev1.PersistentVolumeClaim{}
	if err := c.client.Get(ctx, claimOf(leader), claim); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if !owns(claim, leader) || leader.Name != claim.Name || !claim.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	return claim, nil
}

// follow has an import wait for its leader. The gate of PVC' is closed from then on.
func (c *importController) follow(ctx context.Context, imp, leader *v1alpha1.VMDiskImport) error {
	now := &v1alpha1.VMDiskImport{}
	if err := c.live.Get(ctx, client.ObjectKeyFromObject(leader), now); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading VMDiskImport %s: %w", leader.Name, err)
	}
	key := reuseKey(imp)
	if now.UID != leader.UID || now.Status.Result != nil || !c.leaders.gettingOn(key, now, c.clock.Now()) {
		return nil // our cache was behind
	}
	if !attempting(now) && !c.leaders.cede(key, claimOf(imp), claimOf(now), c.clock.Now()) {
		return nil // it has found another one to follow
	}
	c.leave(claimOf(imp))
	waiting := waitingFor(leader.Name)
	err := c.record(ctx, imp, waiting, func(status *v1alpha1.VMDiskImportStatus) {
		status.Reuses = &v1alpha1.ImportReference{Name: leader.Name, UID: leader.UID}
		status.Strategy, status.TargetUID = "", ""
	})
	if err != nil {
		return err
	}
	c.tell(imp, corev1.EventTypeNormal, eventFollows, waiting.message)
	if imp.Status.Attempts > 0 {
		_, err = c.clearAttempts(ctx, ofImport(imp.UID))
	}
	return err
}

func waitingFor(leader string) state {
	return pending(reasonWaitingForImport, "VMDiskImport %s imports this image already: the volume will be restored from a snapshot of its", leader)
}

// await looks at the leader of a follower, and at what it has left when it has come to its end.
func (c *importController) await(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) error {
	c.leave(claimOf(imp))
	prime := &corev1.PersistentVolumeClaim{}
	if err := c.client.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: primeName(claim.UID)}, prime); err == nil {
		// It was made before there was a leader, for a download.
		if _, err := c.clearVolume(ctx, claim.UID); err != nil {
			return err
		}
	} else if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading PVC': %w", err)
	}
	leader, err := c.waitable(ctx, c.client, imp)
	if err != nil {
		return err
	}
	if leader != nil && leader.Status.Result == nil {
		return c.record(ctx, imp, waitingFor(leader.Name), nil)
	}
	if leader == nil {
		// Our cache may be behind. What the leader has left is there before its end is.
		if leader, err = c.waitable(ctx, c.live, imp); err != nil {
			return err
		}
	}
	left, err := reusedSnapshot(ctx, c.snapshots, c.namespace, imp)
	switch {
	case err != nil:
		return err
	case left != nil:
		return c.chooseReused(ctx, imp, claim, left)
	case leader != nil:
		return c.record(ctx, imp, waitingFor(leader.Name), nil)
	}
	return c.unled(ctx, imp)
}

// waitable reads the leader of a follower; nil when there is no reason to wait for it any more.
func (c *importController) waitable(ctx context.Context, reader client.Reader, imp *v1alpha1.VMDiskImport) (*v1alpha1.VMDiskImport, error) {
	leader := &v1alpha1.VMDiskImport{}
	err := reader.Get(ctx, types.NamespacedName{Namespace: imp.Namespace, Name: imp.Status.Reuses.Name}, leader)
	if err != nil || leader.UID != imp.Status.Reuses.UID || leader.UID == imp.UID {
		return nil, client.IgnoreNotFound(err)
	}
	if claim, err := c.claimOfLeader(ctx, leader); err != nil || claim == nil {
		return nil, err
	}
	if !c.leaders.gettingOn(reuseKey(imp), leader, c.clock.Now()) {
		return nil, nil
	}
	return leader, nil
}

// unled goes on without the leader. Of one that has succeeded and left nothing, or that has found the image to be bad,
// another one would not learn more: nobody waits for that again.
func (c *importController) unled(ctx context.Context, imp *v1alpha1.VMDiskImport) error {
	leader, was := &v1alpha1.VMDiskImport{}, *imp.Status.Reuses
	err := c.live.Get(ctx, types.NamespacedName{Namespace: imp.Namespace, Name: was.Name}, leader)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading VMDiskImport %s: %w", was.Name, err)
	}
	if err == nil && leader.UID == was.UID {
		if why := whyNotLeft(leader); why != "" {
			_, err := c.passOver(ctx, imp, why)
			return err
		}
	}
	free := pending(reasonWaitingForVolume, "VMDiskImport %s does not get on: the image is imported without it", was.Name)
	if err := c.record(ctx, imp, free, func(status *v1alpha1.VMDiskImportStatus) { status.Reuses = nil }); err != nil {
		return err
	}
	c.tell(imp, corev1.EventTypeNormal, eventFollows, free.message)
	return c.release(ctx, imp.Namespace, &was)
}

// whyNotLeft says why a leader has left no snapshot, nor another one will; empty when that may be.
func whyNotLeft(leader *v1alpha1.VMDiskImport) string {
	switch failed := leader.Status.LastFailure; {
	case leader.Status.Phase == v1alpha1.PhaseFailed && failed != nil && isOfTheImage(importer.Reason(failed.Reason)):
		return fmt.Sprintf("VMDiskImport %s could not import this image: %s: %s", leader.Name, failed.Reason, failed.Message)
	case leader.Status.Phase != v1alpha1.PhaseSucceeded:
		return ""
	case !verifiable(leader):
		return fmt.Sprintf("nothing tells the revision that VMDiskImport %s has imported from another one: give the image a checksum, or serve it with a strong ETag", leader.Name)
	}
	return fmt.Sprintf("there is no snapshot of what VMDiskImport %s has imported", leader.Name)
}

// isOfTheImage reports whether an import has failed for a reason that is not its volume's.
func isOfTheImage(reason importer.Reason) bool {
	switch reason.ExitCode() {
	case importer.ExitSource, importer.ExitVerification, importer.ExitImage:
		return true
	}
	return false
}
