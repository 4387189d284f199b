//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// goneWithin is the promise of Gild: so long after the end of an import nothing of it is left.
const goneWithin = 60 * time.Second

// claimUIDLabel marks all that belongs to the import of one claim.
const claimUIDLabel = "gild.dev/claim-uid"

// remove deletes what the tests have made and returns an error when an import has left
// anything behind. Gild goes last: it must clean up after the claims.
func (c *cluster) remove(ctx context.Context) error {
	var problems []error
	keepError := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	keepError(c.deleteNamespaces(ctx))
	keepError(eventually(ctx, goneWithin, func(ctx context.Context) (bool, string, error) {
		left, err := c.leftovers(ctx, "")
		return len(left) == 0, strings.Join(left, "; "), err
	}))
	for _, list := range []client.ObjectList{&storagev1.StorageClassList{}} {
		keepError(c.deleteLabelled(ctx, list))
	}
	objects, err := c.manifests(ctx)
	keepError(err)
	slices.Reverse(objects)
	for _, object := range objects {
		keepError(ignoreAbsent(c.Delete(ctx, object, client.PropagationPolicy(metav1.DeletePropagationForeground))))
	}
	keepError(eventually(ctx, goneWithin, func(ctx context.Context) (bool, string, error) {
		for _, object := range objects {
			err := c.Get(ctx, client.ObjectKeyFromObject(object), object)
			if err == nil {
				return false, object.GetKind() + " " + object.GetName() + " is still there", nil
			}
			if ignoreAbsent(err) != nil {
				return false, "", err
			}
		}
		return true, "", nil
	}))
	if len(problems) > 0 {
		return fmt.Errorf("cleaning up after the tests: %w", errors.Join(problems...))
	}
	return nil
}

// ignoreAbsent drops the errors that say that an object, or its kind, is not there.
func ignoreAbsent(err error) error {
	if meta.IsNoMatchError(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}

// deleteNamespaces deletes every namespace of the tests but Gild's own and waits until
// they are gone, which proves that no finalizer holds anything in them.
func (c *cluster) deleteNamespaces(ctx context.Context) error {
	list := func(ctx context.Context) ([]corev1.Namespace, error) {
		var namespaces corev1.NamespaceList
		err := c.List(ctx, &namespaces, client.HasLabels{runLabel})
		return slices.DeleteFunc(namespaces.Items, func(n corev1.Namespace) bool { return n.Name == systemNamespace }), err
	}
	namespaces, err := list(ctx)
	if err != nil {
		return fmt.Errorf("listing namespaces: %w", err)
	}
	for i := range namespaces {
		if err := c.Delete(ctx, &namespaces[i]); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting namespace %s: %w", namespaces[i].Name, err)
		}
	}
	err = eventually(ctx, 2*time.Minute, func(ctx context.Context) (bool, string, error) {
		namespaces, err := list(ctx)
		return len(namespaces) == 0, describeNamespaces(namespaces), err
	})
	if err != nil {
		return fmt.Errorf("deleting the tests' namespaces: %w", err)
	}
	return nil
}

// describeNamespaces says what keeps namespaces from going.
func describeNamespaces(namespaces []corev1.Namespace) string {
	var texts []string
	for _, namespace := range namespaces {
		text := namespace.Name
		for _, condition := range namespace.Status.Conditions {
			if condition.Status == corev1.ConditionTrue {
				text += " (" + condition.Message + ")"
			}
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

func (c *cluster) deleteLabelled(ctx context.Context, list client.ObjectList) error {
	if err := c.List(ctx, list, client.HasLabels{runLabel}); err != nil {
		return fmt.Errorf("listing what the tests made: %w", err)
	}
	return meta.EachListItem(list, func(item runtime.Object) error {
		object, ok := item.(client.Object)
		if !ok {
			return nil
		}
		return client.IgnoreNotFound(c.Delete(ctx, object))
	})
}

// leftovers names what is there of the imports of one claim, or of all claims when uid is empty: of the first kind that is left, what
// goes last first. It is asked for often, and what is left of one kind is enough to wait.
func (c *cluster) leftovers(ctx context.Context, uid string) ([]string, error) {
	var left []string
	for _, list := range []client.ObjectList{
		&corev1.PersistentVolumeClaimList{}, &corev1.PodList{}, &batchv1.JobList{}, &corev1.SecretList{}, &corev1.ConfigMapList{},
	} {
		if err := c.List(ctx, list, client.InNamespace(systemNamespace)); err != nil {
			return nil, fmt.Errorf("listing leftovers: %w", err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			object, ok := item.(client.Object)
			if !ok {
				return nil
			}
			owner := object.GetLabels()[claimUIDLabel]
			if owner == "" && strings.HasPrefix(object.GetName(), "prime-") {
				owner = strings.TrimPrefix(object.GetName(), "prime-")
			}
			if owner != "" && (uid == "" || owner == uid) {
				left = append(left, fmt.Sprintf("%T %s %v", object, object.GetName(), object.GetFinalizers()))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing leftovers: %w", err)
		}
		if len(left) > 0 {
			return left, nil
		}
	}
	copies, err := c.leftCopies(ctx, uid)
	if err != nil || len(copies) > 0 {
		return copies, err
	}
	return c.leftVolumes(ctx, uid)
}

// leftCopies names what is there of copies of volumes, in all namespaces.
func (c *cluster) leftCopies(ctx context.Context, uid string) ([]string, error) {
	var which client.ListOption = client.HasLabels{claimUIDLabel}
	if uid != "" {
		which = client.MatchingLabels{claimUIDLabel: uid}
	}
	var left []string
	for _, list := range []client.ObjectList{
		&corev1.PodList{}, &corev1.SecretList{}, &corev1.ServiceList{}, &networkingv1.NetworkPolicyList{},
		&snapshotv1.VolumeSnapshotList{}, &snapshotv1.VolumeSnapshotContentList{},
	} {
		err := c.List(ctx, list, which)
		if meta.IsNoMatchError(err) {
			continue // a cluster without snapshots
		}
		if err != nil {
			return nil, fmt.Errorf("listing what is left of copies: %w", err)
		}
		err = meta.EachListItem(list, func(item runtime.Object) error {
			if object, ok := item.(client.Object); ok {
				left = append(left, fmt.Sprintf("%T %s/%s %v", object, object.GetNamespace(), object.GetName(), object.GetFinalizers()))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("listing what is left of copies: %w", err)
		}
	}
	return left, nil
}

// leftVolumes names the volumes that an import still holds, or that no claim of the tests holds.
func (c *cluster) leftVolumes(ctx context.Context, uid string) ([]string, error) {
	var volumes corev1.PersistentVolumeList
	if err := c.List(ctx, &volumes); err != nil {
		return nil, fmt.Errorf("listing volumes: %w", err)
	}
	var left []string
	for _, volume := range volumes.Items {
		claim := volume.Spec.ClaimRef
		if claim == nil || !c.concerns(claim.Namespace) || uid != "" && claim.Name != "prime-"+uid && string(claim.UID) != uid {
			continue
		}
		owner := &corev1.PersistentVolumeClaim{}
		err := c.Get(ctx, client.ObjectKey{Namespace: claim.Namespace, Name: claim.Name}, owner)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("reading claim %s: %w", claim.Name, err)
		}
		if claim.Namespace == systemNamespace || err != nil || owner.UID != claim.UID {
			left = append(left, fmt.Sprintf("volume %s of claim %s/%s, %s", volume.Name, claim.Namespace, claim.Name, volume.Status.Phase))
		}
	}
	return left, nil
}
