package populator

import (
	"context"
	"fmt"
	"sort"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// credentials are what the importer is given to read a source: the contents of its
// --secret-dir and --ca-dir. They are copied to the system namespace for the life of the import.
type credentials struct {
	secret map[string][]byte // the copied Secret; a key with a dot in front of its number is a header
	ca     *corev1.ConfigMap // the copied ConfigMap's data; nil without one
	// references are the objects they came from, as they were.
	references []v1alpha1.ObservedReference
}

// credentialKeys are the keys of a Secret that the importer knows: basic authentication,
// KubeVirt's spelling of it, and a bearer token.
func credentialKeys() []string {
	return []string{"username", "password", "accessKeyId", "secretKey", "token"}
}

// headerKey is the key of the n-th header in the copied Secret. It is mounted as headers/<n>.
func headerKey(n int) string { return fmt.Sprintf("headers.%03d", n) }

// readCredentials reads what an import's source refers to, by name and from the API server:
// Secrets of users are never listed, watched or cached. waiting says what is missing.
func readCredentials(ctx context.Context, live client.Reader, namespace string, source *v1alpha1.DiskSource) (*credentials, *state, error) {
	creds := &credentials{secret: map[string][]byte{}}
	http := source.HTTP
	if http == nil {
		return creds, nil, nil
	}
	if http.SecretRef != "" {
		secret, waiting, err := creds.readSecret(ctx, live, namespace, http.SecretRef)
		if waiting != nil || err != nil {
			return nil, waiting, err
		}
		if secret.Type == corev1.SecretTypeServiceAccountToken {
			waiting := blocked(reasonSecretInvalid, "Secret %s is the token of a service account, which is never sent to a source: name another Secret", http.SecretRef)
			return nil, &waiting, nil
		}
		for _, key := range credentialKeys() {
			if value, ok := secret.Data[key]; ok {
				creds.secret[key] = value
			}
		}
		if !usable(creds.secret) {
			waiting := blocked(reasonSecretInvalid, "Secret %s holds neither username and password nor token: add them, the import goes on by itself", http.SecretRef)
			return nil, &waiting, nil
		}
	}
	headers := 0
	for _, header := range http.ExtraHeaders {
		creds.secret[headerKey(headers)] = []byte(header)
		headers++
	}
	for _, name := range http.SecretExtraHeaders {
		secret, waiting, err := creds.readSecret(ctx, live, namespace, name)
		if waiting != nil || err != nil {
			return nil, waiting, err
		}
		for _, key := range sortedKeys(secret.Data) {
			creds.secret[headerKey(headers)] = secret.Data[key]
			headers++
		}
	}
	if http.CertConfigMap != "" {
		waiting, err := creds.readCA(ctx, live, namespace, http.CertConfigMap)
		if waiting != nil || err != nil {
			return nil, waiting, err
		}
	}
	return creds, nil, nil
}

func (c *credentials) readSecret(ctx context.Context, live client.Reader, namespace, name string) (*corev1.Secret, *state, error) {
	secret := &corev1.Secret{}
	err := live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		waiting := blocked(reasonSecretNotFound, "Secret %s does not exist in namespace %s: create it, the import goes on by itself", name, namespace)
		return nil, &waiting, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	c.observe("Secret", secret)
	return secret, nil, nil
}

func (c *credentials) readCA(ctx context.Context, live client.Reader, namespace, name string) (*state, error) {
	c.ca = &corev1.ConfigMap{}
	err := live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, c.ca)
	if apierrors.IsNotFound(err) {
		waiting := blocked(reasonConfigMapNotFound, "ConfigMap %s does not exist in namespace %s: create it, the import goes on by itself", name, namespace)
		return &waiting, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", name, err)
	}
	c.observe("ConfigMap", c.ca)
	return nil, nil
}

func (c *credentials) observe(kind string, object client.Object) {
	c.references = append(c.references, v1alpha1.ObservedReference{
		Kind: kind, Name: object.GetName(), ResourceVersion: object.GetResourceVersion(),
	})
}

// usable reports whether a copied Secret holds a complete way to authenticate.
func usable(secret map[string][]byte) bool {
	has := func(key string) bool { return len(secret[key]) > 0 }
	return has("token") || has("username") && has("password") || has("accessKeyId") && has("secretKey")
}

// objects are the copies to create in the system namespace.
func (c *credentials) objects(namespace string, imp *v1alpha1.VMDiskImport) []client.Object {
	copyLabels := importLabels(imp.Spec.ClaimRef.UID)
	copyLabels[labelImportUID] = string(imp.UID)
	meta := metav1.ObjectMeta{
		Namespace: namespace, Name: copyName(imp.Spec.ClaimRef.UID), Labels: copyLabels,
		Annotations: map[string]string{annotationClaim: imp.Namespace + "/" + imp.Spec.ClaimRef.Name},
	}
	var objects []client.Object
	if len(c.secret) > 0 {
		objects = append(objects, &corev1.Secret{ObjectMeta: meta, Data: c.secret})
	}
	if c.ca != nil {
		objects = append(objects, &corev1.ConfigMap{ObjectMeta: meta, Data: c.ca.Data, BinaryData: c.ca.BinaryData})
	}
	return objects
}

// changed reports whether one of the objects that the last attempt used is another now.
func changed(ctx context.Context, live client.Reader, imp *v1alpha1.VMDiskImport) (bool, error) {
	for _, reference := range imp.Status.References {
		var object client.Object = &corev1.Secret{}
		if reference.Kind == "ConfigMap" {
			object = &corev1.ConfigMap{}
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

func sortedKeys(data map[string][]byte) []string {
	keys := make([]string, 0, len(data))
	for key := range data {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
