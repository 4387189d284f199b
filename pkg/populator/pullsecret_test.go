package populator

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
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

// TestCopiesAreWhatANodeTakes: a docker configuration is copied in the type that a pod's pull secrets have.
func TestCopiesAreWhatANodeTakes(t *testing.T) {
	for _, test := range []struct {
		secret map[string][]byte
		want   corev1.SecretType
	}{
		{map[string][]byte{".dockerconfigjson": []byte("{}")}, corev1.SecretTypeDockerConfigJson},
		{map[string][]byte{"username": []byte("a")}, ""},
	} {
		objects := copies(&credentials.Credentials{Secret: test.secret}, systemNamespace, testImport())
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
