package populator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/strategy"
)

// choose decides how the disk of a copy gets on its volume. Until it has, there is no PVC'.
func (c *importController) choose(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	if waiting, err := c.notGranted(ctx, imp); waiting != nil || err != nil {
		return c.wait(ctx, imp, waiting, err)
	}
	if gone, err := c.clearTry(ctx, imp); err != nil || !gone {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	facts, waiting, err := c.facts(ctx, imp, claim)
	if waiting != nil || err != nil {
		return c.wait(ctx, imp, waiting, err)
	}
	choice := strategy.Choose(facts)
	if choice.Strategy == v1alpha1.StrategyCopy {
		// Only a copy asks who writes to the source.
		of := imp.Spec.CopyOf
		if facts.Source.Writers, err = c.exports.Writers(ctx, types.NamespacedName{Namespace: of.Namespace, Name: of.Name}); err != nil {
			return c.wait(ctx, imp, nil, err)
		}
		choice = strategy.Choose(facts)
	}
	switch {
	case choice.Strategy == "" && choice.Wait != "":
		waiting := blocked(choice.Wait, "%s", choice.Message)
		return c.wait(ctx, imp, &waiting, nil)
	case choice.Strategy == "":
		return c.fail(ctx, imp, outcome{reason: reasonNoStrategy, message: describePassedOver(choice.PassedOver), passedOver: choice.PassedOver})
	}
	chosen := pending(reasonStarting, "%s", describeChoice(imp, &choice))
	err = c.record(ctx, imp, chosen, func(status *v1alpha1.VMDiskImportStatus) {
		status.Strategy, status.PassedOver = choice.Strategy, choice.PassedOver
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	c.tell(imp, corev1.EventTypeNormal, eventStrategy, chosen.message)
	return ctrl.Result{RequeueAfter: clearAgain}, nil
}

// describeChoice tells the user what begins, and why nothing faster does.
func describeChoice(imp *v1alpha1.VMDiskImport, choice *strategy.Choice) string {
	text := fmt.Sprintf("%s: %s", choice.Strategy, map[v1alpha1.Strategy]string{
		v1alpha1.StrategySnapshot: "restoring from a snapshot of " + describeCopied(imp.Spec.CopyOf),
		v1alpha1.StrategyCopy:     "copying " + describeCopied(imp.Spec.CopyOf),
		v1alpha1.StrategyImport:   "importing again what " + describeCopied(imp.Spec.CopyOf) + " was made from",
	}[choice.Strategy])
	if len(choice.PassedOver) > 0 {
		text += "; not " + describePassedOver(choice.PassedOver)
	}
	return text
}

// describeCopied names what a disk is copied from.
func describeCopied(of *v1alpha1.CopySource) string {
	if of.Kind == v1alpha1.CopyOfClaim {
		return "claim " + of.Namespace + "/" + of.Name
	}
	return of.Kind + " " + of.Namespace + "/" + of.Name
}

// describeOrigin names what an import is restored from.
func describeOrigin(imp *v1alpha1.VMDiskImport) string {
	switch {
	case imp.Spec.CopyOf != nil:
		return describeCopied(imp.Spec.CopyOf)
	case imp.Status.Reuses != nil:
		return "what VMDiskImport " + imp.Status.Reuses.Name + " imported"
	}
	return describeSource(&imp.Spec.ImageRef)
}

func describePassedOver(all []v1alpha1.PassedOver) string {
	var texts []string
	for _, p := range all {
		texts = append(texts, fmt.Sprintf("%s: %s", p.Strategy, p.Message))
	}
	return strings.Join(texts, "; ")
}

// passOver gives up a strategy that did not start, for the next one.
func (c *importController) passOver(ctx context.Context, imp *v1alpha1.VMDiskImport, why string) (ctrl.Result, error) {
	c.leave(claimOf(imp))
	given, reused := v1alpha1.PassedOver{Strategy: imp.Status.Strategy, Message: why}, imp.Status.Reuses
	if follows(imp) { // it may have waited
		given.Strategy = v1alpha1.StrategySnapshot
	}
	next := pending(reasonPassedOver, "%s is passed over: %s", given.Strategy, why)
	err := c.record(ctx, imp, next, func(status *v1alpha1.VMDiskImportStatus) {
		status.PassedOver = append(slices.DeleteFunc(status.PassedOver, func(p v1alpha1.PassedOver) bool { return p.Strategy == given.Strategy }), given)
		status.Strategy, status.TargetUID, status.NextAttemptTime = "", "", nil
		status.Reuses = nil
		if status.Attempts > 0 { // its Job is one to clear away, not one to watch
			status.NextAttemptTime = &metav1.Time{Time: c.clock.Now().Truncate(time.Second)}
		}
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	c.tell(imp, corev1.EventTypeWarning, eventPassedOver, next.message)
	return ctrl.Result{RequeueAfter: clearAgain}, c.release(ctx, imp.Namespace, reused)
}

// isCopy reports whether an import fills its claim from another volume or snapshot, as far as is decided.
func isCopy(imp *v1alpha1.VMDiskImport) bool {
	return imp.Spec.CopyOf != nil && imp.Status.Strategy != v1alpha1.StrategyImport
}
