package credentials

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// defaultServiceAccount has the image pull secrets that pods of its namespace use, and imports too.
	defaultServiceAccount = "default"
	// maxPullSecrets bounds how many of its image pull secrets are read.
	maxPullSecrets = 16
)

// auths are the entries of a docker configuration, by host or host/path.
type auths map[string]json.RawMessage

// readRegistry reads the credentials for an image in a registry: those of the Secret that the source names, otherwise the
// image pull secrets of the namespace's default service account.
func (c *Credentials) readRegistry(ctx context.Context, live client.Reader, namespace string, source *v1alpha1.DiskSource) error {
	registry := source.Registry
	if registry == nil {
		return c.readPullSecrets(ctx, live, namespace)
	}
	read := c.readPullSecrets
	if registry.SecretRef != "" {
		read = func(ctx context.Context, live client.Reader, namespace string) error {
			return c.readLogin(ctx, live, namespace, registry)
		}
	}
	if err := read(ctx, live, namespace); err != nil {
		return err
	}
	return c.readCA(ctx, live, namespace, registry.CertConfigMap)
}

// readLogin reads the Secret that the source names: a docker configuration, or a login for the image's registry.
func (c *Credentials) readLogin(ctx context.Context, live client.Reader, namespace string, registry *v1alpha1.RegistrySource) error {
	secret, err := c.readSecret(ctx, live, namespace, registry.SecretRef)
	if err != nil {
		return err
	}
	found, err := readAuths(secret.Data)
	if err != nil {
		return refuse(SecretInvalid, "mend it", "Secret %s: %s", registry.SecretRef, err)
	}
	if found != nil {
		return c.setAuths(found)
	}
	c.copyKeys(secret)
	if !usable(c.Secret) {
		return refuse(SecretInvalid, "add them", "Secret %s holds neither a docker configuration nor username and password nor token", registry.SecretRef)
	}
	if registry.PullMethod == v1alpha1.PullMethodNode {
		return c.loginForNode(registry)
	}
	return nil
}

// loginForNode turns a login into the docker configuration that a node reads.
func (c *Credentials) loginForNode(registry *v1alpha1.RegistrySource) error {
	user, password := c.Secret["username"], c.Secret["password"]
	if len(user) == 0 || len(password) == 0 {
		user, password = c.Secret["accessKeyId"], c.Secret["secretKey"]
	}
	if len(user) == 0 || len(password) == 0 {
		return refuse(SecretInvalid, fmt.Sprintf("name a Secret of type %s, or use pullMethod: pod", corev1.SecretTypeDockerConfigJson),
			"Secret %s holds a token, which a node cannot use", registry.SecretRef)
	}
	entry, err := json.Marshal(map[string]string{"username": string(user), "password": string(password)})
	if err != nil {
		return errors.New("encoding a login as docker configuration")
	}
	clear(c.Secret)
	host, _, _ := strings.Cut(strings.TrimPrefix(registry.URL, "docker://"), "/")
	return c.setAuths(auths{host: entry})
}

// readPullSecrets reads the image pull secrets of the default service account. As for a pod, one that is missing or not
// to be read is left out: the image may be for everybody.
func (c *Credentials) readPullSecrets(ctx context.Context, live client.Reader, namespace string) error {
	account := &corev1.ServiceAccount{}
	if found, err := c.lookUp(ctx, live, namespace, defaultServiceAccount, "ServiceAccount", account); !found || err != nil {
		return err
	}
	all := auths{}
	for _, reference := range account.ImagePullSecrets[:min(len(account.ImagePullSecrets), maxPullSecrets)] {
		secret := &corev1.Secret{}
		found, err := c.lookUp(ctx, live, namespace, reference.Name, "Secret", secret)
		if err != nil {
			return err
		}
		if !found || secret.Type == corev1.SecretTypeServiceAccountToken {
			continue
		}
		own, err := readAuths(secret.Data)
		if err != nil {
			continue
		}
		for host, entry := range own {
			if _, taken := all[host]; !taken && isLogin(entry) {
				all[host] = entry
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return c.setAuths(all)
}

// isLogin reports whether an entry can be decoded. One that cannot would spoil those of the other hosts.
func isLogin(entry json.RawMessage) bool {
	var login struct {
		Auth string `json:"auth"`
	}
	if json.Unmarshal(entry, &login) != nil {
		return false
	}
	decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(login.Auth), "="))
	return err == nil && (login.Auth == "" || strings.Contains(string(decoded), ":"))
}

// lookUp reads an object that the import can do without. That it was missing is remembered too: once it is there, a failed
// import starts anew.
func (c *Credentials) lookUp(ctx context.Context, live client.Reader, namespace, name, kind string, object client.Object) (found bool, err error) {
	if name == "" {
		return false, nil
	}
	err = live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, object)
	if apierrors.IsNotFound(err) {
		c.References = append(c.References, v1alpha1.ObservedReference{Kind: kind, Name: name})
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %s %s: %w", kind, name, err)
	}
	c.observe(kind, object)
	return true, nil
}

// setAuths makes a docker configuration of auths the one thing that the importer, or the node, is given.
func (c *Credentials) setAuths(a auths) error {
	config, err := json.Marshal(map[string]auths{"auths": a})
	if err != nil {
		return errors.New("encoding the docker configuration")
	}
	c.Secret[corev1.DockerConfigJsonKey] = config
	return nil
}

// readAuths finds the docker configuration in a Secret, in each of its spellings; nil when there is none. Only its logins
// are taken: a helper program that it names does not exist here. Errors never repeat its content.
func readAuths(data map[string][]byte) (auths, error) {
	for _, key := range []string{corev1.DockerConfigJsonKey, "config.json"} {
		content, ok := data[key]
		if !ok {
			continue
		}
		var config struct {
			Auths auths `json:"auths"`
		}
		if json.Unmarshal(content, &config) != nil || len(config.Auths) == 0 {
			return nil, fmt.Errorf("%s is no docker configuration with logins in its auths", key)
		}
		return config.Auths, nil
	}
	content, ok := data[corev1.DockerConfigKey]
	if !ok {
		return nil, nil
	}
	var found auths
	if json.Unmarshal(content, &found) != nil || len(found) == 0 {
		return nil, fmt.Errorf("%s is no docker configuration with logins", corev1.DockerConfigKey)
	}
	return found, nil
}
