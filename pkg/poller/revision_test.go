package poller

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

func ptr[T any](v T) *T { return &v }

func TestDiskSource(t *testing.T) {
	node := cdiv1.RegistryPullNode
	for name, test := range map[string]struct {
		source *cdiv1.DataVolumeSource
		image  string
		want   *v1alpha1.DiskSource
		says   string
	}{
		"http": {
			source: &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{
				URL: "http://images.example.org/Core-14.0.iso?x=1", SecretRef: "s", CertConfigMap: "c", ExtraHeaders: []string{"A: b"}, SecretExtraHeaders: []string{"h"},
			}},
			want: &v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{
				URL: "http://images.example.org/Core-14.0.iso?x=1", SecretRef: "s", CertConfigMap: "c", ExtraHeaders: []string{"A: b"}, SecretExtraHeaders: []string{"h"},
			}},
		},
		"registry": {
			source: &cdiv1.DataVolumeSource{Registry: &cdiv1.DataVolumeSourceRegistry{
				URL: ptr("docker://registry.example.org:5000/a/b:latest"), PullMethod: &node, SecretRef: ptr("s"), CertConfigMap: ptr("c"),
				Platform: &cdiv1.PlatformOptions{Architecture: "arm64"},
			}},
			want: &v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
				URL: "docker://registry.example.org:5000/a/b:latest", PullMethod: v1alpha1.PullMethodNode, SecretRef: "s", CertConfigMap: "c",
				Platform: &v1alpha1.ImagePlatform{Architecture: "arm64"},
			}},
		},
		"image stream": {
			source: &cdiv1.DataVolumeSource{Registry: &cdiv1.DataVolumeSourceRegistry{ImageStream: ptr("debian"), PullMethod: &node}},
			image:  "registry.example.org/debian@" + oneDigest,
			want: &v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
				URL: "docker://registry.example.org/debian@" + oneDigest, PullMethod: v1alpha1.PullMethodNode,
			}},
		},
		"no source":   {says: "no source that can be polled"},
		"s3":          {source: &cdiv1.DataVolumeSource{S3: &cdiv1.DataVolumeSourceS3{URL: "s3://a/b"}}, says: "no source that can be polled"},
		"ftp":         {source: httpAt("ftp://images.example.org/disk"), says: "http:// or https://"},
		"no host":     {source: httpAt("https:///disk"), says: "http:// or https://"},
		"no URL":      {source: httpAt("https://images example.org/disk"), says: "http:// or https://"},
		"password":    {source: httpAt("https://me:canary@images.example.org/disk"), says: "in a Secret"},
		"archive":     {source: registryAt("oci-archive://a/b"), says: "docker://"},
		"no registry": {source: registryAt("docker://fedora"), says: "docker://"},
		"nothing":     {source: registryAt(""), says: "docker://"},
		"login":       {source: registryAt("docker://me:canary@registry.example.org/disk"), says: "docker://"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := diskSource(test.source, test.image)
			if test.says != "" {
				var f *failure
				require.ErrorAs(t, err, &f)
				require.Equal(t, reasonIllegalSource, f.reason)
				require.True(t, f.permanent)
				require.Contains(t, f.message, test.says)
				require.NotContains(t, f.message, "canary")
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func httpAt(url string) *cdiv1.DataVolumeSource {
	return &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: url}}
}

func registryAt(url string) *cdiv1.DataVolumeSource {
	return &cdiv1.DataVolumeSource{Registry: &cdiv1.DataVolumeSourceRegistry{URL: &url}}
}

func TestFileRevision(t *testing.T) {
	const url = "https://images.example.org/disk"
	sha512 := "sha512:" + strings.Repeat("0a", 64)
	source := &v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: url}}
	tagged := v1alpha1.Pin{ETag: `W/"a"`, Length: 7}
	dated := v1alpha1.Pin{LastModified: "Tue, 30 Apr 2024 13:22:27 GMT"}
	for name, test := range map[string]struct {
		pin               v1alpha1.Pin
		published, wanted string
		digest, checksum  string
	}{
		"ETag":                  {pin: tagged, digest: golden.ValidatorDigest(url, &tagged)},
		"Last-Modified":         {pin: dated, digest: golden.ValidatorDigest(url, &dated)},
		"checksum of the cron":  {pin: tagged, wanted: oneDigest, digest: golden.ValidatorDigest(url, &tagged), checksum: oneDigest},
		"published":             {pin: tagged, published: oneDigest, digest: oneDigest, checksum: oneDigest},
		"published, both":       {pin: tagged, published: oneDigest, wanted: sha512, digest: oneDigest, checksum: sha512},
		"published sha512":      {pin: tagged, published: sha512, digest: checksumDigest(sha512), checksum: sha512},
		"length and published":  {pin: v1alpha1.Pin{Length: 7}, published: oneDigest, digest: oneDigest, checksum: oneDigest},
		"length and the cron's": {pin: v1alpha1.Pin{Length: 7}, wanted: oneDigest, digest: oneDigest, checksum: oneDigest},
		"length alone":          {pin: v1alpha1.Pin{Length: 7}},
		"nothing":               {},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fileRevision(source, test.pin, test.published, test.wanted)
			if test.digest == "" {
				require.Equal(t, reasonNoValidator, classify(err).reason)
				require.True(t, classify(err).permanent)
				return
			}
			require.NoError(t, err)
			require.NoError(t, golden.CheckDigest(got.Digest))
			require.Equal(t, &golden.Revision{Digest: test.digest, Source: *source, Checksum: test.checksum, Pin: &test.pin}, got)
		})
	}
}

func TestChecksumOfTheTemplate(t *testing.T) {
	for checksum, good := range map[string]bool{
		"": true, oneDigest: true, "sha512:" + strings.Repeat("0a", 64): true,
		"md5:d41d8cd98f00b204e9800998ecf8427e": false, "sha256:0a": false, strings.ToUpper(oneDigest): false, oneDigest + "\n": false,
	} {
		require.Equal(t, good, checkChecksum(checksum) == nil, checksum)
	}
}

func TestBoundedPin(t *testing.T) {
	pin := v1alpha1.Pin{ETag: strings.Repeat("a", maxETag), LastModified: strings.Repeat("b", maxLastModified), Length: 7}
	require.Equal(t, pin, bounded(pin))
	require.Equal(t, v1alpha1.Pin{Length: 7}, bounded(v1alpha1.Pin{ETag: pin.ETag + "a", LastModified: pin.LastModified + "b", Length: 7, Digest: oneDigest}))
}

func TestImageRevision(t *testing.T) {
	for reference, want := range map[string]string{
		"docker://registry.example.org/a/b":                         "docker://registry.example.org/a/b@",
		"docker://registry.example.org/a/b:latest":                  "docker://registry.example.org/a/b@",
		"docker://registry.example.org:5000/a/b":                    "docker://registry.example.org:5000/a/b@",
		"docker://registry.example.org:5000/a/b:1.0@" + otherDigest: "docker://registry.example.org:5000/a/b@",
		"docker://[2001:db8::1]:5000/a:latest":                      "docker://[2001:db8::1]:5000/a@",
		"docker://localhost/a@" + otherDigest:                       "docker://localhost/a@",
	} {
		source := &v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{URL: reference, SecretRef: "s", CertConfigMap: "c", Platform: &v1alpha1.ImagePlatform{Architecture: "arm64"}}}
		got := imageRevision(source, oneDigest, otherDigest)
		wanted := source.DeepCopy()
		wanted.Registry.URL = want + oneDigest
		require.Equal(t, &golden.Revision{Digest: oneDigest, Index: otherDigest, Source: *wanted}, got)
		require.Equal(t, reference, source.Registry.URL, "the source is left as it is")
	}
	node := &v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/a", PullMethod: v1alpha1.PullMethodNode, CertConfigMap: "c"}}
	require.Empty(t, imageRevision(node, oneDigest, "").Source.Registry.CertConfigMap, "VMDiskImports of this kind have none")
}

func TestHostOf(t *testing.T) {
	for source, want := range map[*cdiv1.DataVolumeSource]string{
		nil: "",
		httpAt("https://images.example.org:8443/a"):                             "images.example.org:8443",
		registryAt("docker://registry.example.org:5000/a/b:latest"):             "registry.example.org:5000",
		{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: "a", Name: "b"}}:            "",
		{Registry: &cdiv1.DataVolumeSourceRegistry{ImageStream: ptr("debian")}}: "",
	} {
		require.Equal(t, want, hostOf(source))
	}
}
