//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	webName   = "web"
	httpPort  = 8080
	httpsPort = 8443
	// caKey is where the ConfigMap and Secret of the image server keep its CA.
	caKey = "ca.crt"
)

// installWeb starts the image server, nginx and the registry in a namespace of their own.
func (c *cluster) installWeb(ctx context.Context) error {
	image, err := cronSeedImage()
	if err != nil {
		return err
	}
	certificate, err := newCertificate("*."+c.webNamespace()+".svc", "*."+wildDomain, seedHost, image.Context().RegistryStr())
	if err != nil {
		return err
	}
	meta := metav1.ObjectMeta{Namespace: c.webNamespace(), Name: webName, Labels: map[string]string{"app": webName, runLabel: c.run}}
	objects := []client.Object{
		c.newNamespace(c.webNamespace()),
		&corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeTLS, Data: map[string][]byte{
			corev1.TLSCertKey: certificate.certificate, corev1.TLSPrivateKeyKey: certificate.key,
		}},
		&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{caKey: string(certificate.ca)}},
		c.webPod(meta),
	}
	for _, object := range objects {
		if err := c.Create(ctx, object); err != nil {
			return fmt.Errorf("starting the image server: %w", err)
		}
	}
	if err := c.waitPod(ctx, client.ObjectKey{Namespace: meta.Namespace, Name: meta.Name}); err != nil {
		return err
	}
	if err := c.installNginx(ctx); err != nil {
		return err
	}
	return c.installRegistry(ctx)
}

// waitPod waits until a pod is ready.
func (c *cluster) waitPod(ctx context.Context, key client.ObjectKey) error {
	err := eventually(ctx, readyWithin, func(ctx context.Context) (bool, string, error) {
		pod := &corev1.Pod{}
		if err := c.Get(ctx, key, pod); err != nil {
			return false, "", err
		}
		return podReady(pod), describePod(pod), nil
	})
	if err != nil {
		return fmt.Errorf("starting pod %s: %w", key.Name, err)
	}
	return nil
}

func (c *cluster) newNamespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		runLabel: c.run, "pod-security.kubernetes.io/enforce": "restricted",
	}}}
}

func (c *cluster) webPod(meta metav1.ObjectMeta) *corev1.Pod {
	container := corev1.Container{
		Name: webName, Image: c.image("gild-imageserver"),
		Args:            []string{"serve", "--dir=/data", fmt.Sprintf("--https=:%d", httpsPort), "--tls-dir=/tls"},
		SecurityContext: restrictedContainer(),
		ReadinessProbe:  webProbe(),
		VolumeMounts:    []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "tls", MountPath: "/tls"}},
	}
	return &corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{
		AutomountServiceAccountToken: ptr.To(false), SecurityContext: restrictedPod(), Containers: []corev1.Container{container},
		Volumes: []corev1.Volume{
			{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: meta.Name}}},
		},
	}}
}

// webProbe makes a pod ready when its image server listens: a pod that runs may not listen yet.
func webProbe() *corev1.Probe {
	return &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/control/requests/ready", Port: intstr.FromInt32(httpPort),
	}}}
}

// certificate is a server's certificate with the CA that signed it, all in PEM.
type certificate struct{ ca, certificate, key []byte }

// newCertificate makes a CA of its own and a certificate for DNS names.
func newCertificate(dnsNames ...string) (certificate, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, fmt.Errorf("making a CA: %w", err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gild-e2e CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return certificate{}, fmt.Errorf("making a CA: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: dnsNames[0]}, DNSNames: dnsNames,
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certificate{}, fmt.Errorf("encoding a key: %w", err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return certificate{ca: encode("CERTIFICATE", caDER), certificate: encode("CERTIFICATE", leafDER), key: encode("PRIVATE KEY", keyDER)}, nil
}

// callWeb sends one request to the image server and returns the answer.
func (c *cluster) callWeb(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	return c.callPod(ctx, client.ObjectKey{Namespace: c.webNamespace(), Name: webName}, method, path, body)
}

// callPod sends one request to a pod that runs the image server's program, through the API
// server, and returns the answer.
func (c *cluster) callPod(ctx context.Context, pod client.ObjectKey, method, path string, body []byte) ([]byte, error) {
	request := c.typed.CoreV1().RESTClient().Verb(method).Namespace(pod.Namespace).Resource("pods").
		Name(fmt.Sprintf("%s:%d", pod.Name, httpPort)).SubResource("proxy").Suffix(path)
	if body != nil {
		request = request.SetHeader("Content-Type", "application/octet-stream").Body(bytes.NewReader(body))
	}
	answer, err := request.DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking pod %s: %w", pod.Name, err)
	}
	return answer, nil
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(condition corev1.PodCondition) bool {
		return condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
	})
}
