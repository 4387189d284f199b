package populator

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/golden"
)

// storageClass reads a class; nil when there is none of that name.
func storageClass(ctx context.Context, reader client.Reader, name string) (*storagev1.StorageClass, error) {
	class := &storagev1.StorageClass{}
	err := reader.Get(ctx, types.NamespacedName{Name: name}, class)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading StorageClass %s: %w", name, err)
	}
	return class, nil
}

func waitsForConsumer(class *storagev1.StorageClass) bool {
	return class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer
}

// wantsImmediate reports whether a claim asks to be filled before anything uses it.
func wantsImmediate(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[golden.AnnotationBindImmediately] == "true"
}

var errNoNode = errors.New("no node of the cluster is ready")

// anyReadyNode names a node that is ready. It only opens lib-volume-populator's gate: PVC' is made
// without it, and the scheduler chooses the node for the importer pod.
func anyReadyNode(ctx context.Context, reader client.Reader) (string, error) {
	var nodes corev1.NodeList
	if err := reader.List(ctx, &nodes); err != nil {
		return "", fmt.Errorf("listing nodes: %w", err)
	}
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue && !node.Spec.Unschedulable {
				return node.Name, nil
			}
		}
	}
	return "", errNoNode
}
