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
	secret map[string][]byte // the copied Secret: keys of the user's, a docker configuration, headers
	ca     *corev1.ConfigMap // the copied ConfigMap's data; nil without one
	// references are the objects they came from, as they were.
	references []v1alpha1.ObservedReference
}

// credentialKeys are the keys of a Secret that the importer knows: basic authentication,
// KubeVirt's spelling of it, and a bearer token.
func credentialKeys() []string {
	return []string{"username", "password", "accessKeyId", "secretKey", "token"}
}

// headerKeys begins the keys of headers in the copied Secret.
const headerKeys = "headers."

// headerKey is the key of the n-th header in the copied Secret. It is mounted as headers/<n>.
func headerKey(n int) string { return fmt.Sprintf("%s%03d", headerKeys, n) }

// readCredentials reads what an import's source refers to, by name and from the API server:
// Secrets of users are never listed, watched or cached. waiting says what is missing.
func readCredentials(ctx context.Context, live client.Reader, namespace string, source *v1alpha1.DiskSource) (*credentials, *state, error) {
	creds := &credentials{secret: map[string][]byte{}}
	read := creds.readRegistry
	if source.HTTP != nil {
		read = creds.readHTTP
	}
	if waiting, err := read(ctx, live, namespace, source); waiting != nil || err != nil {
		return nil, waiting, err
	}
	return creds, nil, nil
}

// readHTTP reads the credentials, headers and certificates for a web server.
func (c *credentials) readHTTP(ctx context.Context, live client.Reader, namespace string, source *v1alpha1.DiskSource) (*state, error) {
	http := source.HTTP
	if http.SecretRef != "" {
		secret, waiting, err := c.readSecret(ctx, live, namespace, http.SecretRef)
		if waiting != nil || err != nil {
			return waiting, err
		}
		if waiting := refuseToken(secret); waiting != nil {
			return waiting, nil
		}
		c.copyKeys(secret)
		if !usable(c.secret) {
			waiting := blocked(reasonSecretInvalid, "Secret %s holds neither username and password nor token: add them, the import goes on by itself", http.SecretRef)
			return &waiting, nil
		}
	}
	headers := 0
	for _, header := range http.ExtraHeaders {
		c.secret[headerKey(headers)] = []byte(header)
		headers++
	}
	for _, name := range http.SecretExtraHeaders {
		secret, waiting, err := c.readSecret(ctx, live, namespace, name)
		if waiting != nil || err != nil {
			return waiting, err
		}
		for _, key := range sortedKeys(secret.Data) {
			c.secret[headerKey(headers)] = secret.Data[key]
			headers++
		}
	}
	if http.CertConfigMap == "" {
		return nil, nil
	}
	return c.readCA(ctx, live, namespace, http.CertConfigMap)
}

// copyKeys copies what the importer knows of a Secret.
func (c *credentials) copyKeys(secret *corev1.Secret) {
	for _, key := range credentialKeys() {
		if value, ok := secret.Data[key]; ok {
			c.secret[key] = value
		}
	}
}

// refuseToken refuses a Secret with the token of a service account; nil for any other.
func refuseToken(secret *corev1.Secret) *state {
	if secret.Type != corev1.SecretTypeServiceAccountToken {
		return nil
	}
	waiting := blocked(reasonSecretInvalid, "Secret %s is the token of a service account, which is never sent to a source: name another Secret", secret.Name)
	return &waiting
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
		secret := &corev1.Secret{ObjectMeta: meta, Data: c.secret}
		if _, ok := c.secret[corev1.DockerConfigJsonKey]; ok {
			secret.Type = corev1.SecretTypeDockerConfigJson // the one that a node takes
		}
		objects = append(objects, secret)
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

func sortedKeys(data map[string][]byte) []string {
	keys := make([]string, 0, len(data))
	for key := range data {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
