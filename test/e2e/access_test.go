//go:build e2e

package e2e

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// reader is the user name of the tests.
const reader = "reader"

// basic is the header of the reader's basic authentication.
func basic(password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(reader+":"+password))
}

// TestShowsItsCredentials imports from servers that let nobody in without them.
func TestShowsItsCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(f *fixture) (need map[string]string, edit func(*v1alpha1.HTTPSource)){
		"basic authentication": func(f *fixture) (map[string]string, func(*v1alpha1.HTTPSource)) {
			password := f.Canary()
			f.Secret("login", map[string]string{"username": reader, "password": password})
			return map[string]string{"Authorization": basic(password)},
				func(http *v1alpha1.HTTPSource) { http.SecretRef = "login" }
		},
		"KubeVirt's spelling of it": func(f *fixture) (map[string]string, func(*v1alpha1.HTTPSource)) {
			password := f.Canary()
			f.Secret("login", map[string]string{"accessKeyId": reader, "secretKey": password})
			return map[string]string{"Authorization": basic(password)},
				func(http *v1alpha1.HTTPSource) { http.SecretRef = "login" }
		},
		"bearer token": func(f *fixture) (map[string]string, func(*v1alpha1.HTTPSource)) {
			token := f.Canary()
			f.Secret("login", map[string]string{"token": token})
			return map[string]string{"Authorization": "Bearer " + token},
				func(http *v1alpha1.HTTPSource) { http.SecretRef = "login" }
		},
		"extra headers": func(*fixture) (map[string]string, func(*v1alpha1.HTTPSource)) {
			return map[string]string{"X-Team": "platform", "X-Colour": "blue: light"},
				func(http *v1alpha1.HTTPSource) {
					http.ExtraHeaders = []string{"X-Team: platform", "X-Colour: blue: light"}
				}
		},
		"secret extra headers": func(f *fixture) (map[string]string, func(*v1alpha1.HTTPSource)) {
			licence, key := f.Canary(), f.Canary()
			f.Secret("headers", map[string]string{"licence": "X-Licence: " + licence})
			f.Secret("more-headers", map[string]string{"key": "X-Key: " + key})
			return map[string]string{"X-Licence": licence, "X-Key": key},
				func(http *v1alpha1.HTTPSource) { http.SecretExtraHeaders = []string{"headers", "more-headers"} }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := f.Raw(diskSize)
			need, edit := test(f)
			img.file.Need = need
			source := f.Serve("disk", img.file)
			f.VMDiskImage("image", source.URL, func(spec *v1alpha1.VMDiskImageSpec) { edit(spec.Source.HTTP) })
			c := f.Claim("disk", "image", block)
			f.RequireBound(c)
			f.RequireDisk(c, img.disk)
			f.RequireNothingLeft(c)
			for _, request := range source.Requests() {
				require.NotEqual(t, 401, request.Status, "nothing is asked for without them")
			}
		})
	}
}

// TestTrustsACA imports over https from a server whose CA only the user knows.
func TestTrustsACA(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Qcow2(diskSize)
	source := f.Serve("disk", img.file)
	f.ConfigMap("ca", map[string]string{"web.pem": f.WebCA()})
	f.VMDiskImage("image", source.TLS(), func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.HTTP.CertConfigMap = "ca" })
	c := f.Claim("disk", "image")
	f.RequireBound(c)
	f.RequireDisk(c, img.disk)
	f.RequireNothingLeft(c)
	for _, request := range source.Requests() {
		require.True(t, request.TLS)
	}
}

// TestSecretsStayHome redirects to another host and proves that no secret goes there, nor into
// anything that people can read while the import runs or after it.
func TestSecretsStayHome(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	password, licence := f.Canary(), f.Canary()
	f.Secret("login", map[string]string{"username": reader, "password": password})
	f.Secret("headers", map[string]string{"licence": "X-Licence: " + licence})
	away := f.Serve("away", img.Held())
	homeFile := img.file
	homeFile.RedirectTo = away.On(f.Host(f.namespace + "-away"))
	homeFile.Need = map[string]string{"Authorization": basic(password), "X-Licence": licence}
	home := f.Serve("home", homeFile)
	f.VMDiskImage("image", home.URL, func(spec *v1alpha1.VMDiskImageSpec) {
		spec.Source.HTTP.SecretRef = "login"
		spec.Source.HTTP.SecretExtraHeaders = []string{"headers"}
		spec.Source.HTTP.ExtraHeaders = []string{"X-Team: platform"}
	})
	c := f.Claim("disk", "image")
	away.WaitServed(img.length / 2)
	pod := f.ImporterPod(c)
	away.Publish(img.file)
	f.RequireBound(c)
	f.RequireDisk(c, img.disk)
	f.RequireNothingLeft(c)

	require.NotEmpty(t, home.Requests())
	require.NotEmpty(t, away.Requests())
	for _, request := range away.Requests() {
		for _, header := range []string{"Authorization", "X-Licence", "X-Team"} {
			require.Empty(t, request.Header.Get(header), "%s went to another host", header)
		}
		require.NotContains(t, request.Header.Get("Referer"), reader)
	}
	f.RequireRecordedLog(pod.Name)
	for _, secret := range []string{password, licence, basic(password)} {
		names, err := f.recorded(secret)
		require.NoError(t, err)
		require.Empty(t, names, "a secret can be read in the records")
	}
}
