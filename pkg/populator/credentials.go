package populator

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
)

// readCredentials reads what an import's source refers to. waiting says what is missing.
func readCredentials(ctx context.Context, live client.Reader, namespace string, source *v1alpha1.DiskSource) (*credentials.Credentials, *state, error) {
	found, err := credentials.Read(ctx, live, namespace, source)
	var refusal *credentials.Refusal
	if errors.As(err, &refusal) {
		waiting := blocked(refusal.Reason, "%s, the import goes on by itself", refusal)
		return nil, &waiting, nil
	}
	return found, nil, err
}

// copies are the objects to create in the system namespace, for the life of the import.
func copies(c *credentials.Credentials, namespace string, imp *v1alpha1.VMDiskImport) []client.Object {
	copyLabels := importLabels(imp.Spec.ClaimRef.UID)
	copyLabels[labelImportUID] = string(imp.UID)
	meta := metav1.ObjectMeta{
		Namespace: namespace, Name: copyName(imp.Spec.ClaimRef.UID), Labels: copyLabels,
		Annotations: map[string]string{annotationClaim: imp.Namespace + "/" + imp.Spec.ClaimRef.Name},
	}
	var objects []client.Object
	if len(c.Secret) > 0 {
		secret := &corev1.Secret{ObjectMeta: meta, Data: c.Secret}
		if _, ok := c.Secret[corev1.DockerConfigJsonKey]; ok {
			secret.Type = corev1.SecretTypeDockerConfigJson // the one that a node takes
		}
		objects = append(objects, secret)
	}
	if c.CA != nil {
		objects = append(objects, &corev1.ConfigMap{ObjectMeta: meta, Data: c.CA.Data, BinaryData: c.CA.BinaryData})
	}
	return objects
}

// changed reports whether one of the objects that the last attempt used is another now.
func changed(ctx context.Context, live client.Reader, imp *v1alpha1.VMDiskImport) (bool, error) {
	for _, reference := range imp.Status.References {
		var object client.Object = &corev1.Secret{}
		switch reference.Kind {
		case "ConfigMap":
			object = &corev1.ConfigMap{}
		case "ServiceAccount":
			object = &corev1.ServiceAccount{}
		}
		err := live.Get(ctx, types.NamespacedName{Namespace: imp.Namespace, Name: reference.Name}, object)
		if apierrors.IsNotFound(err) {
			continue // a missing one cannot help; when it is created again its version differs
		}
		if err != nil {
			return false, fmt.Errorf("reading %s %s: %w", reference.Kind, reference.Name, err)
		}
		if object.GetResourceVersion() != reference.ResourceVersion {
			return true, nil
		}
	}
	return false, nil
}
