//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	registryName = "registry"
	// storeName is the host that the registry has its blobs on, where it redirects.
	storeName = "store"
	// seedHost is the host of the seed's image, which the registry answers for: no test leaves this machine.
	seedHost = name.DefaultRegistry
)

// The ways to the images of test/registry: its flags and their ports.
const (
	plainPort    = 5000 // no TLS
	guardedPort  = 5001 // no TLS, basic authentication
	tlsPort      = 5002
	basicPort    = 5003
	tokenPort    = 5004
	redirectPort = 5005 // basic authentication, blobs come from the store
	storePort    = 5006
)

// registryFault is a fault of test/registry, as its package fault describes it.
type registryFault struct {
	On             string `json:"on,omitempty"`
	Digest         string `json:"digest,omitempty"`
	Skip           int    `json:"skip,omitempty"`
	Times          int    `json:"times,omitempty"`
	Status         int    `json:"status,omitempty"`
	RetryAfter     string `json:"retryAfter,omitempty"`
	PadTo          int    `json:"padTo,omitempty"`
	TokenSeconds   int    `json:"tokenSeconds,omitempty"`
	CutAfter       int64  `json:"cutAfter,omitempty"`
	HoldAfter      int64  `json:"holdAfter,omitempty"`
	BytesPerSecond int64  `json:"bytesPerSecond,omitempty"`
	FlipAt         int64  `json:"flipAt,omitempty"`
}

// What a registry is asked for.
const (
	onManifest = "manifest"
	onBlob     = "blob"
	onToken    = "token"
)

// registryRequest is a request that the registry has seen.
type registryRequest struct {
	Time   time.Time   `json:"time"`
	Method string      `json:"method"`
	Kind   string      `json:"kind"`
	Path   string      `json:"path"`
	Host   string      `json:"host"`
	Header http.Header `json:"header"`
	Status int         `json:"status"`
	Bytes  int64       `json:"bytes"`
}

// installRegistry starts the registry beside the image server, with its certificate.
func (c *cluster) installRegistry(ctx context.Context) error {
	meta := metav1.ObjectMeta{Namespace: c.webNamespace(), Name: registryName, Labels: map[string]string{"app": registryName, runLabel: c.run}}
	args := []string{
		"--dir=/data", "--tls-dir=/tls", fmt.Sprintf("--control=:%d", httpPort),
		fmt.Sprintf("--store-url=https://%s.%s.svc:%d", storeName, c.webNamespace(), storePort),
	}
	for name, port := range registryPorts() {
		args = append(args, fmt.Sprintf("--%s=:%d", name, port))
	}
	pod := c.webPod(meta)
	pod.Spec.Containers[0].Name, pod.Spec.Containers[0].Image, pod.Spec.Containers[0].Args = registryName, c.image("gild-registry"), args
	pod.Spec.Volumes[1].Secret.SecretName = webName
	for _, object := range []client.Object{pod, c.registryService(storeName, 0)} {
		if err := c.Create(ctx, object); err != nil {
			return fmt.Errorf("starting the registry: %w", err)
		}
	}
	return c.waitPod(ctx, client.ObjectKeyFromObject(pod))
}

func registryPorts() map[string]int32 {
	return map[string]int32{
		"plain": plainPort, "guarded": guardedPort, "tls": tlsPort, "basic": basicPort,
		"token": tokenPort, "redirect": redirectPort, "store": storePort,
	}
}

// registryService is one more host name of the registry. Its port 443 is one of the others unless that is 0.
func (c *cluster) registryService(name string, standard int32) *corev1.Service {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.webNamespace(), Name: name, Labels: map[string]string{runLabel: c.run}},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": registryName}},
	}
	for name, port := range registryPorts() {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: name, Port: port})
	}
	if standard != 0 {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: "standard", Port: 443, TargetPort: intstr.FromInt32(standard)})
	}
	return service
}

// Registry makes a host name of the registry of the test's own, so that the limit of imports per host does not tie
// tests together, and returns it.
func (f *fixture) Registry() string {
	f.Helper()
	name := f.namespace + "-registry"
	require.NoError(f, client.IgnoreAlreadyExists(f.Create(f.ctx, f.registryService(name, 0))))
	return fmt.Sprintf("%s.%s.svc", name, f.webNamespace())
}

// callRegistry sends one request to the registry's control port, through the API server.
func (c *cluster) callRegistry(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	return c.callPod(ctx, client.ObjectKey{Namespace: c.webNamespace(), Name: registryName}, method, path, body)
}

// RegistryUser makes a user of the test's own, and returns its name and its password, a canary.
func (f *fixture) RegistryUser() (name, password string) {
	f.Helper()
	name, password = f.namespace, f.Canary()
	_, err := f.callRegistry(f.ctx, http.MethodPut, "/control/users/"+name, []byte(password))
	require.NoError(f, err)
	return name, password
}

// PullSecret makes a Secret as kubectl create secret docker-registry does.
func (f *fixture) PullSecret(secret, host, name, password string) {
	f.Helper()
	config, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"username": name, "password": password}}})
	require.NoError(f, err)
	object := &corev1.Secret{ObjectMeta: f.meta(secret), Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: config}}
	err = f.Create(f.ctx, object)
	if client.IgnoreAlreadyExists(err) == nil && err != nil {
		err = f.Update(f.ctx, object)
	}
	require.NoError(f, err)
}

// PullSecretsOfDefault has the service account default name the pull secrets.
func (f *fixture) PullSecretsOfDefault(names ...string) {
	f.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "default"}}
	f.Eventually("a service account", time.Minute, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, client.ObjectKeyFromObject(account), account)
		return err == nil, "none", client.IgnoreNotFound(err)
	})
	before := account.DeepCopy()
	account.ImagePullSecrets = nil
	for _, name := range names {
		account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	require.NoError(f, f.Patch(f.ctx, account, client.MergeFrom(before)))
}

// pushed is an image in the registry.
type pushed struct {
	f *fixture
	// repository and tag name it; digest is that of its manifest.
	repository, tag, digest string
	host                    string
}

// URL names the image by its tag on one way to the registry.
func (p *pushed) URL(port int) string {
	return fmt.Sprintf("docker://%s:%d/%s:%s", p.host, port, p.repository, p.tag)
}

// ByDigest names it by its digest.
func (p *pushed) ByDigest(port int) string {
	return fmt.Sprintf("docker://%s:%d/%s@%s", p.host, port, p.repository, p.digest)
}

// Faults replaces the faults of the image's repository. What is held goes on.
func (p *pushed) Faults(faults ...registryFault) {
	p.f.Helper()
	if faults == nil {
		faults = []registryFault{}
	}
	text, err := json.Marshal(faults)
	require.NoError(p.f, err)
	_, err = p.f.callRegistry(p.f.ctx, http.MethodPut, "/control/faults/"+p.repository, text)
	require.NoError(p.f, err)
}

// Requests are what was asked of the image's repository so far.
func (p *pushed) Requests() []registryRequest {
	p.f.Helper()
	return p.f.registryRequests(p.repository)
}

// registryRequests are those under a name: a repository, or store/ and a digest in hexadecimal.
func (f *fixture) registryRequests(name string) []registryRequest {
	f.Helper()
	requests, err := f.askRegistryRequests(f.ctx, name)
	require.NoError(f, err)
	return requests
}

func (f *fixture) askRegistryRequests(ctx context.Context, name string) ([]registryRequest, error) {
	answer, err := f.callRegistry(ctx, http.MethodGet, "/control/requests/"+name, nil)
	if err != nil {
		return nil, err
	}
	var requests []registryRequest
	err = json.NewDecoder(bytes.NewReader(answer)).Decode(&requests)
	return requests, err
}

// WaitServed waits until at least n bytes of blobs were sent.
func (p *pushed) WaitServed(n int64) {
	p.f.Helper()
	p.f.Eventually("bytes served", importWithin, func(ctx context.Context) (bool, string, error) {
		requests, err := p.f.askRegistryRequests(ctx, p.repository)
		sum := blobBytes(requests)
		return sum >= n, fmt.Sprintf("%d of %d bytes in %d requests", sum, n, len(requests)), err
	})
}

// blobBytes are the bytes of blobs that requests were answered with.
func blobBytes(requests []registryRequest) int64 {
	var sum int64
	for _, request := range requests {
		if request.Kind == onBlob {
			sum += request.Bytes
		}
	}
	return sum
}

// registryAddress is the cluster IP of a host name of the registry whose port 443 is one of the others.
func (f *fixture) registryAddress(name string, standard int32) string {
	f.Helper()
	service := f.registryService(name, standard)
	require.NoError(f, f.Create(f.ctx, service))
	return service.Spec.ClusterIP
}

// nameHost has the cluster's name server answer for a host until the test ends.
func (f *fixture) nameHost(host, address string) {
	f.Helper()
	f.NeedsTestCluster("a name server that answers for any host")
	const namespace, name = "kube-system", "gild-test-hosts"
	patch := func(ctx context.Context, value *string) error {
		text, err := json.Marshal(map[string]any{"data": map[string]*string{host: value}})
		if err != nil {
			return err
		}
		hosts := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if err := client.IgnoreAlreadyExists(f.Create(ctx, hosts)); err != nil {
			return err
		}
		return f.Patch(ctx, hosts, client.RawPatch("application/merge-patch+json", text))
	}
	require.NoError(f, patch(f.ctx, ptr.To(address)))
	f.Cleanup(func() { require.NoError(f, patch(context.WithoutCancel(f.ctx), nil)) })
}
