package populator

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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

func registryImage(secret string, method v1alpha1.PullMethod) *v1alpha1.VMDiskImage {
	image := testImage()
	image.Spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
		URL: "docker://registry.example.org:5000/disks/debian:12", SecretRef: secret, PullMethod: method,
	}}
	return image
}

func TestRegistryCredentials(t *testing.T) {
	const config = `{"auths":{"registry.example.org:5000":{"auth":"cmVhZGVyOnB3"}}}`
	byShortForm := v1alpha1.DiskSource{ImageRef: "registry.example.org:5000/disks/debian:12"}
	for name, test := range map[string]struct {
		source  v1alpha1.DiskSource
		objects []client.Object
		want    map[string]string
		// waits is what the import waits for, says part of the message.
		waits, says string
		observed    []string
	}{
		"docker configuration": {
			source:  registryImage("login", "").Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{".dockerconfigjson": `{"credsStore":"desktop",` + config[1:]})},
			want:    map[string]string{".dockerconfigjson": config}, observed: []string{"Secret/login"},
		},
		"docker configuration as a file": {
			source:  registryImage("login", "").Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{"config.json": config})},
			want:    map[string]string{".dockerconfigjson": config}, observed: []string{"Secret/login"},
		},
		"old docker configuration": {
			source:  registryImage("login", "").Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{".dockercfg": `{"registry.example.org:5000":{"auth":"cmVhZGVyOnB3"}}`})},
			want:    map[string]string{".dockerconfigjson": config}, observed: []string{"Secret/login"},
		},
		"user and password": {
			source:  registryImage("login", "").Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{"username": "reader", "password": "pw", "other": "x"})},
			want:    map[string]string{"username": "reader", "password": "pw"}, observed: []string{"Secret/login"},
		},
		"KubeVirt's keys": {
			source:  registryImage("login", "").Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{"accessKeyId": "reader", "secretKey": "pw"})},
			want:    map[string]string{"accessKeyId": "reader", "secretKey": "pw"}, observed: []string{"Secret/login"},
		},
		"user and password for the node": {
			source:  registryImage("login", v1alpha1.PullMethodNode).Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{"username": "reader", "password": `p"w`})},
			want:    map[string]string{".dockerconfigjson": `{"auths":{"registry.example.org:5000":{"password":"p\"w","username":"reader"}}}`}, observed: []string{"Secret/login"},
		},
		"KubeVirt's keys for the node": {
			source:  registryImage("login", v1alpha1.PullMethodNode).Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{"accessKeyId": "reader", "secretKey": "pw"})},
			want:    map[string]string{".dockerconfigjson": `{"auths":{"registry.example.org:5000":{"password":"pw","username":"reader"}}}`}, observed: []string{"Secret/login"},
		},
		"token for the node": {
			source:  registryImage("login", v1alpha1.PullMethodNode).Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{"token": "canary"})},
			waits:   reasonSecretInvalid, says: "pullMethod: pod",
		},
		"no Secret": {
			source: registryImage("login", "").Spec.Source, waits: reasonSecretNotFound, says: "login",
		},
		"nothing in it": {
			source:  registryImage("login", "").Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{"user": "canary"})},
			waits:   reasonSecretInvalid, says: "docker configuration",
		},
		"broken configuration": {
			source:  registryImage("login", "").Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{".dockerconfigjson": `{"auths": canary`})},
			waits:   reasonSecretInvalid, says: ".dockerconfigjson is no docker configuration",
		},
		"no logins": {
			source:  registryImage("login", "").Spec.Source,
			objects: []client.Object{secretOf("login", map[string]string{".dockerconfigjson": `{"credsStore":"canary"}`})},
			waits:   reasonSecretInvalid, says: "auths",
		},
		"token of a service account": {
			source: registryImage("login", "").Spec.Source,
			objects: []client.Object{func() *corev1.Secret {
				secret := secretOf("login", map[string]string{"token": "canary"})
				secret.Type = corev1.SecretTypeServiceAccountToken
				return secret
			}()},
			waits: reasonSecretInvalid, says: "never sent",
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
			source:   registryImage("", v1alpha1.PullMethodNode).Spec.Source,
			objects:  []client.Object{defaultAccount("one"), secretOf("one", map[string]string{".dockerconfigjson": config})},
			want:     map[string]string{".dockerconfigjson": config},
			observed: []string{"ServiceAccount/default", "Secret/one"},
		},
		"its own Secret wins over pull secrets": {
			source: registryImage("login", "").Spec.Source,
			objects: []client.Object{
				defaultAccount("one"), secretOf("one", map[string]string{".dockerconfigjson": config}),
				secretOf("login", map[string]string{"username": "reader", "password": "pw"}),
			},
			want: map[string]string{"username": "reader", "password": "pw"}, observed: []string{"Secret/login"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			live := fake.NewClientBuilder().WithObjects(test.objects...).Build()
			creds, waiting, err := readCredentials(t.Context(), live, "vms", &test.source)
			require.NoError(t, err)
			if test.waits != "" {
				require.NotNil(t, waiting)
				require.Equal(t, test.waits, waiting.reason)
				require.Contains(t, waiting.message, test.says)
				require.NotContains(t, waiting.message, "canary", "a secret is told")
				return
			}
			require.Nil(t, waiting)
			got := map[string]string{}
			for key, value := range creds.secret {
				got[key] = string(value)
			}
			require.Equal(t, test.want, got)
			var observed []string
			for _, reference := range creds.references {
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
	creds, _, err := readCredentials(t.Context(), live, "vms", &v1alpha1.DiskSource{ImageRef: "registry.example.org/disk"})
	require.NoError(t, err)
	require.Len(t, creds.references, 1+maxPullSecrets)
	require.LessOrEqual(t, len(creds.references)+1, 32, "more than a status can hold")
}

// TestCopiesAreWhatANodeTakes: a docker configuration is copied in the type that a pod's pull secrets have.
func TestCopiesAreWhatANodeTakes(t *testing.T) {
	for _, test := range []struct {
		secret map[string][]byte
		want   corev1.SecretType
	}{
		{map[string][]byte{".dockerconfigjson": []byte("{}")}, corev1.SecretTypeDockerConfigJson},
		{map[string][]byte{"username": []byte("a")}, ""},
	} {
		objects := (&credentials{secret: test.secret}).objects(systemNamespace, testImport())
		require.Len(t, objects, 1)
		require.Equal(t, test.want, objects[0].(*corev1.Secret).Type)
	}
}

func TestFailedRegistryImportStartsAnew(t *testing.T) {
	const config = `{"auths":{"registry.example.org:5000":{"auth":"cmVhZGVyOnB3"}}}`
	pull := func(content string) *corev1.Secret {
		return secretOf("pull", map[string]string{".dockerconfigjson": content})
	}
	for name, test := range map[string]struct {
		objects []client.Object
		mend    func(*testing.T, *world)
	}{
		"pull secret replaced": {
			[]client.Object{defaultAccount("pull"), pull(`{"auths":{}}`)},
			func(t *testing.T, w *world) { require.NoError(t, w.store.Update(t.Context(), pull(config))) },
		},
		"pull secret created": {
			[]client.Object{defaultAccount("pull")},
			func(t *testing.T, w *world) { require.NoError(t, w.store.Create(t.Context(), pull(config))) },
		},
		"pull secret named": {
			[]client.Object{defaultAccount(), pull(config)},
			func(t *testing.T, w *world) {
				require.NoError(t, w.store.Update(t.Context(), defaultAccount("pull")))
			},
		},
		"service account created": {
			[]client.Object{pull(config)},
			func(t *testing.T, w *world) {
				require.NoError(t, w.store.Create(t.Context(), defaultAccount("pull")))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, append(test.objects, registryImage("", ""), testClaim(), fastClass())...)
			good := w.end
			w.end = func(int32) (int32, string) { return 10, `{"reason":"AuthenticationFailed","message":"401"}` }
			w.settle(w.phase(v1alpha1.PhaseFailed))
			for range 5 {
				w.tick()
			}
			require.True(t, w.phase(v1alpha1.PhaseFailed)(), "nothing has changed, so nothing starts anew")
			require.Len(t, w.jobs, 1)
			w.requireNothingLeft()

			w.end = good
			test.mend(t, w)
			w.settle(w.phase(v1alpha1.PhaseSucceeded))
		})
	}
}
