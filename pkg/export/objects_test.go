package export

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/exporter"
)

var update = flag.Bool("update", false, "write the golden files anew")

const systemNamespace = "gild-system"

func testTime() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

func testSpec() Spec {
	return Spec{
		ID:       "0c1a",
		Claim:    types.NamespacedName{Namespace: "golden", Name: "debian-12"},
		ClaimUID: "99cc",
		Image:    "gild-importer:test",
		Revision: "sha256:9f86d081884c",
		Labels:   map[string]string{"gild.dev/claim-uid": "77aa", labelComponent: "forged", labelManagedBy: "forged"},
	}
}

func blockSpec() Spec {
	spec := testSpec()
	spec.ReadOnlyDevice = true
	spec.Revision = "$(PATH)"
	return spec
}

func TestObjects(t *testing.T) {
	for name, o := range map[string]client.Object{
		"pod-filesystem": newPod(testSpec(), 1),
		"pod-block":      newPod(blockSpec(), 2),
		"service":        newService(testSpec()),
		"policy":         newPolicy(testSpec(), systemNamespace),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := yaml.Marshal(o)
			require.NoError(t, err)
			golden := filepath.Join("testdata", name+".yaml")
			if *update {
				require.NoError(t, os.WriteFile(golden, got, 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))
		})
	}
}

// TestServiceAndPolicyFindThePod: the labels that select are those that the pod has, and those of an
// importer pod are let in.
func TestServiceAndPolicyFindThePod(t *testing.T) {
	pod, service, rules := newPod(testSpec(), 1), newService(testSpec()), newPolicy(testSpec(), systemNamespace)
	require.True(t, labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)))
	require.True(t, labels.SelectorFromSet(rules.Spec.PodSelector.MatchLabels).Matches(labels.Set(pod.Labels)))
	require.Empty(t, rules.Spec.Egress)

	// The golden file of the populator's own Job has the labels of the pods that read.
	text, err := os.ReadFile(filepath.Join("..", "populator", "testdata", "job-filesystem.yaml"))
	require.NoError(t, err)
	var job struct {
		Spec struct {
			Template struct{ Metadata struct{ Labels labels.Set } }
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &job))
	from := rules.Spec.Ingress[0].From[0]
	require.True(t, labels.SelectorFromSet(from.PodSelector.MatchLabels).Matches(job.Spec.Template.Metadata.Labels))
	require.Equal(t, systemNamespace, from.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"])
}

// TestExporterTakesItsArguments: the exporter finds nothing wrong with the arguments that pods give it.
func TestExporterTakesItsArguments(t *testing.T) {
	args := newPod(testSpec(), 1).Spec.Containers[0].Args
	require.Equal(t, "serve", args[0])
	var o exporter.Options
	flags := pflag.NewFlagSet("importer serve", pflag.ContinueOnError)
	o.BindFlags(flags)
	require.NoError(t, flags.Parse(args[1:]))
	require.NoError(t, o.Validate())
	require.Equal(t, testSpec().Revision, o.Revision)
}

func TestPodIsRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	for _, spec := range []Spec{testSpec(), blockSpec()} {
		pod := newPod(spec, 1)
		for _, check := range evaluator.EvaluatePod(psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
			require.True(t, check.Allowed, "%s: %s", check.ForbiddenReason, check.ForbiddenDetail)
		}
		require.False(t, *pod.Spec.AutomountServiceAccountToken)
		require.True(t, pod.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly)
		c := pod.Spec.Containers[0]
		require.NotEmpty(t, c.Resources.Limits.Memory().Value())
		require.NotEmpty(t, c.Resources.Requests.Cpu().MilliValue())
		require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem)
		for _, mount := range c.VolumeMounts {
			require.True(t, mount.ReadOnly, mount.Name)
		}
	}
}

// TestSecret verifies the certificate of the Secret as a reader does.
func TestSecret(t *testing.T) {
	now := testTime()
	secret, err := newSecret(testSpec(), now)
	require.NoError(t, err)
	expires, err := expiry(secret)
	require.NoError(t, err)
	require.WithinDuration(t, now.Add(validity), expires, time.Second)
	require.Len(t, secret.Data[keyToken], 64)

	other, err := newSecret(testSpec(), now)
	require.NoError(t, err)
	require.NotEqual(t, secret.Data[keyToken], other.Data[keyToken])

	for name, c := range map[string]struct {
		trusted *corev1.Secret
		host    string
		at      time.Time
		wrong   bool
	}{
		"good":            {trusted: secret, host: "gild-export-0c1a.golden.svc", at: now},
		"other name":      {trusted: secret, host: "gild-export-0c1a.silver.svc", at: now, wrong: true},
		"other export":    {trusted: other, host: "gild-export-0c1a.golden.svc", at: now, wrong: true},
		"a day later":     {trusted: secret, host: "gild-export-0c1a.golden.svc", at: now.Add(validity + time.Minute), wrong: true},
		"a clock behind":  {trusted: secret, host: "gild-export-0c1a.golden.svc", at: now.Add(-time.Minute)},
		"an hour earlier": {trusted: secret, host: "gild-export-0c1a.golden.svc", at: now.Add(-time.Hour), wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := tls.X509KeyPair(secret.Data[keyCertificate], secret.Data[keyKey])
			require.NoError(t, err)
			roots := x509.NewCertPool()
			require.True(t, roots.AppendCertsFromPEM(c.trusted.Data[keyCertificate]))
			_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: c.host, CurrentTime: c.at})
			require.Equal(t, c.wrong, err != nil, "%v", err)
		})
	}
}

// TestSecretSignsNothing: whoever has the key of an export cannot make certificates with it that its
// reader would trust.
func TestSecretSignsNothing(t *testing.T) {
	secret, err := newSecret(testSpec(), testTime())
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(secret.Data[keyCertificate], secret.Data[keyKey])
	require.NoError(t, err)
	require.False(t, pair.Leaf.IsCA)
	require.Zero(t, pair.Leaf.KeyUsage&x509.KeyUsageCertSign)
}

func TestBrokenSecret(t *testing.T) {
	secret, err := newSecret(testSpec(), testTime())
	require.NoError(t, err)
	for _, key := range []string{keyCertificate, keyKey, keyToken} {
		broken := secret.DeepCopy()
		broken.Data[key] = []byte("canary")
		_, err := expiry(broken)
		require.Error(t, err, key)
		require.NotContains(t, err.Error(), "canary")
	}
}
