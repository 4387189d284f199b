//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fixture is what one test works with: the cluster, a namespace of its own, and a name of its
// own for the image server, so that the limit of imports per host does not tie tests together.
type fixture struct {
	*testing.T
	*cluster
	ctx       context.Context // the test's own
	namespace string
	host      string
}

// start gives a test its namespace, and removes it when the test ends.
func start(t *testing.T) *fixture {
	t.Helper()
	settings, err := readSettings()
	require.NoError(t, err)
	return startIn(t, "gild-e2e-"+settings.run+"-"+rand.String(5))
}

// startIn gives a test a namespace of that name.
func startIn(t *testing.T, namespace string) *fixture {
	t.Helper()
	settings, err := readSettings()
	require.NoError(t, err)
	c, err := connect(settings)
	require.NoError(t, err)
	f := &fixture{T: t, cluster: c, ctx: t.Context(), namespace: namespace}
	require.NoError(t, f.Create(f.ctx, f.newNamespace(f.namespace)))
	f.host = f.Host(f.namespace)
	t.Cleanup(func() {
		// The test's own context is over by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), time.Minute)
		defer cancel()
		if t.Failed() {
			f.explain(ctx)
			if f.keep {
				return
			}
		}
		if err := f.Delete(ctx, f.newNamespace(f.namespace)); err != nil {
			t.Errorf("deleting the test's namespace: %v", err)
		}
	})
	return f
}

// within is the same fixture for a subtest.
func (f *fixture) within(t *testing.T) *fixture {
	return &fixture{T: t, cluster: f.cluster, ctx: t.Context(), namespace: f.namespace, host: f.host}
}

// Host makes one more host name of the image server and returns it.
func (f *fixture) Host(name string) string {
	f.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.webNamespace(), Name: name, Labels: map[string]string{runLabel: f.run}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": webName},
			Ports:    []corev1.ServicePort{{Name: "http", Port: httpPort}, {Name: "https", Port: httpsPort}},
		},
	}
	require.NoError(f, f.Create(f.ctx, service))
	return fmt.Sprintf("%s.%s.svc", name, f.webNamespace())
}

// Canary returns a value that must never be seen outside of a Secret: the whole run's records
// are searched for it.
func (f *fixture) Canary() string {
	return f.canaryStem() + rand.String(8)
}

// Secret makes a Secret, or gives one that is there another content.
func (f *fixture) Secret(name string, data map[string]string) {
	f.Helper()
	secret := &corev1.Secret{ObjectMeta: f.meta(name), StringData: data}
	err := f.Create(f.ctx, secret)
	if client.IgnoreAlreadyExists(err) == nil && err != nil {
		err = f.Update(f.ctx, secret)
	}
	require.NoError(f, err)
}

// ConfigMap makes a ConfigMap, or gives one that is there another content.
func (f *fixture) ConfigMap(name string, data map[string]string) {
	f.Helper()
	configMap := &corev1.ConfigMap{ObjectMeta: f.meta(name), Data: data}
	err := f.Create(f.ctx, configMap)
	if client.IgnoreAlreadyExists(err) == nil && err != nil {
		err = f.Update(f.ctx, configMap)
	}
	require.NoError(f, err)
}

// WebCA is the certificate of the CA that the image server's own certificate is from.
func (f *fixture) WebCA() string {
	f.Helper()
	configMap := &corev1.ConfigMap{}
	require.NoError(f, f.Get(f.ctx, client.ObjectKey{Namespace: f.webNamespace(), Name: webName}, configMap))
	return configMap.Data[caKey]
}

// Kubectl runs kubectl in the test's namespace and returns its output.
func (f *fixture) Kubectl(args ...string) string {
	f.Helper()
	text, err := f.kubectl(f.ctx, append([]string{"--namespace", f.namespace}, args...)...)
	require.NoError(f, err)
	return text
}

// Eventually waits until done is true. What done says last is in the failure.
func (f *fixture) Eventually(what string, within time.Duration, done func(context.Context) (bool, string, error)) {
	f.Helper()
	require.NoError(f, eventually(f.ctx, within, done), what)
}

// NeedsTestCluster skips the test where it needs what only test/cluster has.
func (f *fixture) NeedsTestCluster(what string) {
	f.Helper()
	if !f.testCluster {
		f.Skipf("needs %s, which only the test cluster has: run make test-e2e without KUBECONFIG", what)
	}
}

func (f *fixture) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: f.namespace, Name: name, Labels: map[string]string{runLabel: f.run}}
}

// explain logs what Gild says about the claims of a test that failed.
func (f *fixture) explain(ctx context.Context) {
	for _, args := range [][]string{
		{"get", "dic,das,dv,pvc,vmdi,vmdimp,pods", "--output=wide"},
		{"get", "dic,das,dv", "--output=yaml"},
		{"get", "vmdimp", "--output=jsonpath={range .items[*]}{.metadata.name}{\" \"}{.status}{\"\\n\"}{end}"},
		{"get", "events", "--sort-by=.metadata.creationTimestamp"},
	} {
		text, err := f.kubectl(ctx, append([]string{"--namespace", f.namespace}, args...)...)
		f.Logf("kubectl %s (%v)\n%s", strings.Join(args, " "), err, text)
	}
	var claims corev1.PersistentVolumeClaimList
	if err := f.List(ctx, &claims, client.InNamespace(f.namespace)); err != nil {
		f.Logf("listing claims: %v", err)
		return
	}
	for _, claim := range claims.Items {
		logs, _ := filepath.Glob(filepath.Join(f.settings.record, "import-"+string(claim.UID)+"*.log"))
		for _, log := range logs {
			text, err := os.ReadFile(log)
			f.Logf("log of claim %s: %s (%v)\n%s", claim.Name, filepath.Base(log), err, lastLines(string(text), 30))
		}
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
