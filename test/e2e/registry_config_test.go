//go:build e2e

package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// registryTemplate gives importers an operator's settings of registries, and the CA of our own registry.
const registryTemplate = `
spec:
  volumes:
  - {name: registries, configMap: {name: %[1]s-registries}}
  - {name: trusted, configMap: {name: %[1]s-trusted}}
  containers:
  - name: importer
    env: [{name: SSL_CERT_FILE, value: /run/trusted/ca.crt}]
    volumeMounts:
    - {name: registries, mountPath: /etc/containers}
    - {name: trusted, mountPath: /run/trusted}
`

// setRegistries gives importers files below /etc/containers, and has them trust our own registry as an operator
// sets it up, until the test ends.
func (f *fixture) setRegistries(files map[string]string) {
	f.Helper()
	for name, data := range map[string]map[string]string{
		f.namespace + "-registries": files,
		f.namespace + "-trusted":    {"ca.crt": f.WebCA()},
	} {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: name, Labels: map[string]string{runLabel: f.run}}, Data: data}
		require.NoError(f, f.Create(f.ctx, object))
		f.Cleanup(func() { require.NoError(f, client.IgnoreNotFound(f.Delete(context.WithoutCancel(f.ctx), object))) })
	}
	f.setJobTemplate(fmt.Sprintf(registryTemplate, f.namespace))
}

// withoutCA takes the CA away that the source names.
func withoutCA(spec *v1alpha1.VMDiskImageSpec) { spec.Source.Registry.CertConfigMap = "" }

// TestHeedsTheOperatorsSettings runs imports with a registries.conf and a policy.json.
func TestHeedsTheOperatorsSettings(t *testing.T) {
	f := start(t)
	host := f.Registry()
	const mirrored = "mirrored.invalid"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	encoded := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	signed := fmt.Sprintf("%s:%d/%s/signed", host, tlsPort, f.namespace)
	f.setRegistries(map[string]string{
		"registries.conf": fmt.Sprintf(`
[[registry]]
location = "%[1]s:%[2]d"
insecure = true

[[registry]]
location = "%[3]s"
[[registry.mirror]]
location = "%[1]s:%[4]d"

[[registry]]
location = "blocked.invalid"
blocked = true
`, host, plainPort, mirrored, tlsPort),
		"policy.json": fmt.Sprintf(`{
  "default": [{"type": "insecureAcceptAnything"}],
  "transports": {"docker": {%q: [{"type": "sigstoreSigned", "keyData": %q}]}}
}`, signed, encoded),
	})
	for name, test := range map[string]struct {
		repository string
		url        func(p *pushed) string
		reason     string
	}{
		"a registry without TLS": {"plain", func(p *pushed) string { return p.URL(plainPort) }, ""},
		"a mirror": {"mirrored", func(p *pushed) string {
			return fmt.Sprintf("docker://%s/%s:%s", mirrored, p.repository, p.tag)
		}, ""},
		"a registry that is blocked": {"blocked", func(*pushed) string { return "docker://blocked.invalid/disk:1" }, "SourceRefused"},
		"an image without a signature": {"signed", func(p *pushed) string {
			return fmt.Sprintf("docker://%s:%s", signed, p.tag)
		}, "SignatureRejected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := f.within(t)
			p := f.Push(test.repository, f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
			f.RegistryImage(test.repository, test.url(p), withoutCA)
			c := f.Claim(test.repository, test.repository, block)
			if test.reason != "" {
				f.RequireFailed(c, test.reason)
				return
			}
			imp := f.RequireBound(c)
			require.Equal(t, p.digest, imp.Status.Result.Digest)
			f.RequireDisk(c, f.Disk(diskSize))
			f.RequireNothingLeft(c)
		})
	}
}

// TestRefusesARegistryWithoutTLS wants TLS where no operator has said otherwise.
func TestRefusesARegistryWithoutTLS(t *testing.T) {
	t.Parallel()
	f := start(t)
	p := f.Push("disk", f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
	f.RegistryImage("image", p.URL(plainPort))
	imp := f.RequireFailed(f.Claim("disk", "image", block), "CertificateError")
	require.Contains(t, ready(imp).Message, "TLS")
}
