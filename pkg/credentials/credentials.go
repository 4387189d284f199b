// Package credentials reads what a source is opened with: Secrets, image pull secrets and
// certificates of one namespace. They are read by name and from the API server: Secrets of
// users are never listed, watched or cached.
package credentials

import (
	"context"
	"fmt"
	"sort"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// The reasons of a Refusal.
const (
	SecretNotFound    = "SecretNotFound"
	SecretInvalid     = "SecretInvalid"
	ConfigMapNotFound = "ConfigMapNotFound"
)

// Refusal tells what is missing or cannot be used. It holds no secret. Reading again helps as soon
// as somebody has done what Remedy says.
type Refusal struct {
	Reason string
	// Remedy is what to do, for example "create it".
	Remedy string

	message string
}

func refuse(reason, remedy, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Remedy: remedy, message: fmt.Sprintf(format, args...)}
}

// Error says what is wrong and what to do.
func (r *Refusal) Error() string { return r.message + ": " + r.Remedy }

// Credentials are the contents of the importer's --secret-dir and --ca-dir.
type Credentials struct {
	// Secret has the keys of the user's Secret that the importer knows, or a docker
	// configuration, and headers.
	Secret map[string][]byte
	// CA is the ConfigMap with certificates; nil without one.
	CA *corev1.ConfigMap
	// References are the objects they came from, as they were.
	References []v1alpha1.ObservedReference
}

// keys are those of a Secret that the importer knows: basic authentication, KubeVirt's spelling
// of it, and a bearer token.
func keys() []string {
	return []string{"username", "password", "accessKeyId", "secretKey", "token"}
}

// HeaderKeys begins the keys of headers in Credentials.Secret.
const HeaderKeys = "headers."

// HeaderKey is the key of the n-th header, which is written "Name: value". It is mounted as headers/<n>.
func HeaderKey(n int) string { return fmt.Sprintf("%s%03d", HeaderKeys, n) }

// Read reads what a source refers to in its namespace. An error that is a Refusal says what is
// missing.
func Read(ctx context.Context, live client.Reader, namespace string, source *v1alpha1.DiskSource) (*Credentials, error) {
	c := &Credentials{Secret: map[string][]byte{}}
	if source.Blank != nil {
		return c, nil
	}
	read := c.readRegistry
	if source.HTTP != nil {
		read = c.readHTTP
	}
	if err := read(ctx, live, namespace, source); err != nil {
		return nil, err
	}
	return c, nil
}

// readHTTP reads the credentials, headers and certificates for a web server.
func (c *Credentials) readHTTP(ctx context.Context, live client.Reader, namespace string, source *v1alpha1.DiskSource) error {
	http := source.HTTP
	if http.SecretRef != "" {
		secret, err := c.readSecret(ctx, live, namespace, http.SecretRef)
		if err != nil {
			return err
		}
		c.copyKeys(secret)
		if !usable(c.Secret) {
			return refuse(SecretInvalid, "add them", "Secret %s holds neither username and password nor token", http.SecretRef)
		}
	}
	headers := 0
	for _, header := range http.ExtraHeaders {
		c.Secret[HeaderKey(headers)] = []byte(header)
		headers++
	}
	for _, name := range http.SecretExtraHeaders {
		secret, err := c.readAny(ctx, live, namespace, name)
		if err != nil {
			return err
		}
		for _, key := range sortedKeys(secret.Data) {
			c.Secret[HeaderKey(headers)] = secret.Data[key]
			headers++
		}
	}
	return c.readCA(ctx, live, namespace, http.CertConfigMap)
}

// copyKeys copies what the importer knows of a Secret.
func (c *Credentials) copyKeys(secret *corev1.Secret) {
	for _, key := range keys() {
		if value, ok := secret.Data[key]; ok {
			c.Secret[key] = value
		}
	}
}

// readSecret reads a Secret for a login. The token of a service account is never one.
func (c *Credentials) readSecret(ctx context.Context, live client.Reader, namespace, name string) (*corev1.Secret, error) {
	secret, err := c.readAny(ctx, live, namespace, name)
	if err != nil {
		return nil, err
	}
	if secret.Type == corev1.SecretTypeServiceAccountToken {
		return nil, refuse(SecretInvalid, "name another Secret", "Secret %s is the token of a service account, which is never sent to a source", name)
	}
	return secret, nil
}

func (c *Credentials) readAny(ctx context.Context, live client.Reader, namespace, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, refuse(SecretNotFound, "create it", "Secret %s does not exist in namespace %s", name, namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	c.observe("Secret", secret)
	return secret, nil
}

// readCA reads certificates, if any are named.
func (c *Credentials) readCA(ctx context.Context, live client.Reader, namespace, name string) error {
	if name == "" {
		return nil
	}
	c.CA = &corev1.ConfigMap{}
	err := live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, c.CA)
	if apierrors.IsNotFound(err) {
		return refuse(ConfigMapNotFound, "create it", "ConfigMap %s does not exist in namespace %s", name, namespace)
	}
	if err != nil {
		return fmt.Errorf("reading ConfigMap %s: %w", name, err)
	}
	c.observe("ConfigMap", c.CA)
	return nil
}

func (c *Credentials) observe(kind string, object client.Object) {
	c.References = append(c.References, v1alpha1.ObservedReference{
		Kind: kind, Name: object.GetName(), ResourceVersion: object.GetResourceVersion(),
	})
}

// usable reports whether a copied Secret holds a complete way to authenticate.
func usable(secret map[string][]byte) bool {
	has := func(key string) bool { return len(secret[key]) > 0 }
	return has("token") || has("username") && has("password") || has("accessKeyId") && has("secretKey")
}

func sortedKeys(data map[string][]byte) []string {
	keys := make([]string, 0, len(data))
	for key := range data {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}
