package credentials

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func secretOf(name string, data map[string]string) *corev1.Secret {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: name}, Data: map[string][]byte{}}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	return secret
}

// defaultAccount is the service account whose image pull secrets imports use.
func defaultAccount(pullSecrets ...string) *corev1.ServiceAccount {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "default"}}
	for _, name := range pullSecrets {
		account.ImagePullSecrets = append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return account
}

func registrySource(secret string, method v1alpha1.PullMethod) v1alpha1.DiskSource {
	return v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
		URL: "docker://registry.example.org:5000/disks/debian:12", SecretRef: secret, PullMethod: method,
	}}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRegistryCredentials(t *testing.T) {
	const config = `{"auths":{"registry.example.org:5000":{"auth":"cmVhZGVyOnB3"}}}`
	byShortForm := v1alpha1.DiskSource{ImageRef: "registry.example.org:5000/disks/debian:12"}
	for name, test := range map[string]struct {
		source  v1alpha1.DiskSource
		objects []client.Object
		want    map[string]string
		// waits is the reason of the refusal, says part of it.
		waits, says string
		observed    []string
	}{
		"docker configuration": {
			source:  registrySource("login", ""),
			objects: []client.Object{secretOf("login", map[string]string{".dockerconfigjson": `{"credsStore":"desktop",` + config[1:]})},
			want:    map[string]string{".dockerconfigjson": config}, observed: []string{"Secret/login"},
		},
		"docker configuration as a file": {
			source:  registrySource("login", ""),
			objects: []client.Object{secretOf("login", map[string]string{"config.json": config})},
			want:    map[string]string{".dockerconfigjson": config}, observed: []string{"Secret/login"},
		},
		"old docker configuration": {
			source:  registrySource("login", ""),
			objects: []client.Object{secretOf("login", map[string]string{".dockercfg": `{"registry.example.org:5000":{"auth":"cmVhZGVyOnB3"}}`})},
			want:    map[string]string{".dockerconfigjson": config}, observed: []string{"Secret/login"},
		},
		"user and password": {
			source:  registrySource("login", ""),
			objects: []client.Object{secretOf("login", map[string]string{"username": "reader", "password": "pw", "other": "x"})},
			want:    map[string]string{"username": "reader", "password": "pw"}, observed: []string{"Secret/login"},
		},
		"KubeVirt's keys": {
			source:  registrySource("login", ""),
			objects: []client.Object{secretOf("login", map[string]string{"accessKeyId": "reader", "secretKey": "pw"})},
			want:    map[string]string{"accessKeyId": "reader", "secretKey": "pw"}, observed: []string{"Secret/login"},
		},
		"user and password for the node": {
			source:  registrySource("login", v1alpha1.PullMethodNode),
			objects: []client.Object{secretOf("login", map[string]string{"username": "reader", "password": `p"w`})},
			want:    map[string]string{".dockerconfigjson": `{"auths":{"registry.example.org:5000":{"password":"p\"w","username":"reader"}}}`}, observed: []string{"Secret/login"},
		},
		"KubeVirt's keys for the node": {
			source:  registrySource("login", v1alpha1.PullMethodNode),
			objects: []client.Object{secretOf("login", map[string]string{"accessKeyId": "reader", "secretKey": "pw"})},
			want:    map[string]string{".dockerconfigjson": `{"auths":{"registry.example.org:5000":{"password":"pw","username":"reader"}}}`}, observed: []string{"Secret/login"},
		},
		"token for the node": {
			source:  registrySource("login", v1alpha1.PullMethodNode),
			objects: []client.Object{secretOf("login", map[string]string{"token": "canary"})},
			waits:   SecretInvalid, says: "pullMethod: pod",
		},
		"no Secret": {
			source: registrySource("login", ""), waits: SecretNotFound, says: "login",
		},
		"nothing in it": {
			source:  registrySource("login", ""),
			objects: []client.Object{secretOf("login", map[string]string{"user": "canary"})},
			waits:   SecretInvalid, says: "docker configuration",
		},
		"broken configuration": {
			source:  registrySource("login", ""),
			objects: []client.Object{secretOf("login", map[string]string{".dockerconfigjson": `{"auths": canary`})},
			waits:   SecretInvalid, says: ".dockerconfigjson is no docker configuration",
		},
		"no logins": {
			source:  registrySource("login", ""),
			objects: []client.Object{secretOf("login", map[string]string{".dockerconfigjson": `{"credsStore":"canary"}`})},
			waits:   SecretInvalid, says: "auths",
		},
		"token of a service account": {
			source: registrySource("login", ""),
			objects: []client.Object{func() *corev1.Secret {
				secret := secretOf("login", map[string]string{"token": "canary"})
				secret.Type = corev1.SecretTypeServiceAccountToken
				return secret
			}()},
			waits: SecretInvalid, says: "never sent",
		},
		"no service account": {
			source: byShortForm, want: map[string]string{}, observed: []string{"ServiceAccount/default, missing"},
		},
		"no pull secrets": {
			source: byShortForm, objects: []client.Object{defaultAccount()}, want: map[string]string{}, observed: []string{"ServiceAccount/default"},
		},
		"pull secrets, the first one wins": {
			source: byShortForm,
			objects: []client.Object{
				defaultAccount("one", "", "two", "missing", "broken", "three"),
				secretOf("one", map[string]string{".dockerconfigjson": `{"auths":{"a":{"auth":"MTox"},"b":{"auth":"no login"},"e":1}}`}),
				secretOf("two", map[string]string{".dockercfg": `{"a":{"auth":"Mjoy"},"b":{"auth":"Mjoy"}}`}),
				secretOf("broken", map[string]string{".dockerconfigjson": `{`}),
				secretOf("three", map[string]string{".dockerconfigjson": `{"auths":{"b":{"auth":"Mzoz"},"c/d":{"username":"3","password":"3"}}}`}),
			},
			want:     map[string]string{".dockerconfigjson": `{"auths":{"a":{"auth":"MTox"},"b":{"auth":"Mjoy"},"c/d":{"username":"3","password":"3"}}}`},
			observed: []string{"ServiceAccount/default", "Secret/one", "Secret/two", "Secret/missing, missing", "Secret/broken", "Secret/three"},
		},
		"pull secrets for the node": {
			source:   registrySource("", v1alpha1.PullMethodNode),
			objects:  []client.Object{defaultAccount("one"), secretOf("one", map[string]string{".dockerconfigjson": config})},
			want:     map[string]string{".dockerconfigjson": config},
			observed: []string{"ServiceAccount/default", "Secret/one"},
		},
		"its own Secret wins over pull secrets": {
			source: registrySource("login", ""),
			objects: []client.Object{
				defaultAccount("one"), secretOf("one", map[string]string{".dockerconfigjson": config}),
				secretOf("login", map[string]string{"username": "reader", "password": "pw"}),
			},
			want: map[string]string{"username": "reader", "password": "pw"}, observed: []string{"Secret/login"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			live := fake.NewClientBuilder().WithObjects(test.objects...).Build()
			creds, err := Read(t.Context(), live, "vms", &test.source)
			if test.waits != "" {
				var refusal *Refusal
				require.ErrorAs(t, err, &refusal)
				require.Equal(t, test.waits, refusal.Reason)
				require.ErrorContains(t, err, test.says)
				require.NotContains(t, err.Error(), "canary", "a secret is told")
				return
			}
			require.NoError(t, err)
			got := map[string]string{}
			for key, value := range creds.Secret {
				got[key] = string(value)
			}
			require.Equal(t, test.want, got)
			var observed []string
			for _, reference := range creds.References {
				text := reference.Kind + "/" + reference.Name
				if reference.ResourceVersion == "" {
					text += ", missing"
				}
				observed = append(observed, text)
			}
			require.Equal(t, test.observed, observed)
		})
	}
}

func TestPullSecretsAreBounded(t *testing.T) {
	many := strings.Fields(strings.Repeat("missing ", maxPullSecrets+10))
	live := fake.NewClientBuilder().WithObjects(defaultAccount(many...)).Build()
	creds, err := Read(t.Context(), live, "vms", &v1alpha1.DiskSource{ImageRef: "registry.example.org/disk"})
	require.NoError(t, err)
	require.Len(t, creds.References, 1+maxPullSecrets)
	require.LessOrEqual(t, len(creds.References)+1, 32, "more than a status can hold")
}

func TestHTTPCredentials(t *testing.T) {
	source := v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{
		SecretRef: "login", CertConfigMap: "certs", ExtraHeaders: []string{"X-Team: vms"}, SecretExtraHeaders: []string{"one", "two"},
	}}
	objects := []client.Object{
		secretOf("login", map[string]string{"accessKeyId": "reader", "secretKey": "pw", "other": "x"}),
		secretOf("one", map[string]string{"b": "X-B: b", "a": "X-A: a"}), secretOf("two", map[string]string{"c": "X-C: c"}),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "vms", Name: "certs"}, Data: map[string]string{"ca.pem": "pem"}},
	}
	creds, err := Read(t.Context(), fake.NewClientBuilder().WithObjects(objects...).Build(), "vms", &source)
	require.NoError(t, err)
	require.Equal(t, map[string][]byte{
		"accessKeyId": []byte("reader"), "secretKey": []byte("pw"), "headers.000": []byte("X-Team: vms"),
		"headers.001": []byte("X-A: a"), "headers.002": []byte("X-B: b"), "headers.003": []byte("X-C: c"),
	}, creds.Secret)
	require.Equal(t, "pem", creds.CA.Data["ca.pem"])
	require.Len(t, creds.References, 4)
	for missing, reason := range map[string]string{"login": SecretNotFound, "two": SecretNotFound, "certs": ConfigMapNotFound} {
		var left []client.Object
		for _, object := range objects {
			if object.GetName() != missing {
				object.SetResourceVersion("")
				left = append(left, object)
			}
		}
		_, err := Read(t.Context(), fake.NewClientBuilder().WithObjects(left...).Build(), "vms", &source)
		var refusal *Refusal
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, reason, refusal.Reason)
		require.ErrorContains(t, err, missing+" does not exist in namespace vms: create it")
	}
}
