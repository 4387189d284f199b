package golden_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func TestRevisionSurvivesItsAnnotation(t *testing.T) {
	for name, revision := range map[string]golden.Revision{
		"a file": {
			Digest: digest, Checksum: digest,
			Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example.org/disk", SecretRef: "s"}},
			Pin:    &v1alpha1.Pin{ETag: `W/"a"`, LastModified: "Tue, 30 Apr 2024 13:22:27 GMT", Length: 7},
		},
		"an image": {
			Digest: digest, Index: digest,
			Source: v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/disk@" + digest}},
		},
		"a claim": {Digest: "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", Claim: &golden.Claim{Namespace: "a", Name: "b", UID: "7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"}},
	} {
		t.Run(name, func(t *testing.T) {
			read, err := golden.ParseRevision(revision.String())
			require.NoError(t, err)
			require.Equal(t, &revision, read)
		})
	}
}

func TestParseRevisionRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":           "",
		"no JSON":           "sha256:",
		"no digest":         "{}",
		"a short digest":    `{"digest": "sha256:9f86d081884c"}`,
		"an upper digest":   `{"digest": "` + strings.ToUpper(digest[7:]) + `"}`,
		"another algorithm": `{"digest": "md5:9f86d081884c7d659a2feaa0c55ad015"}`,
		"a short UID":       `{"digest": "uid:7f0a"}`,
		"a UID in capitals": `{"digest": "uid:7F0A7F0E-8A5C-4A0B-9B0E-0D6F1D1F9D10"}`,
		"a UID with a path": `{"digest": "uid:../../../etc/passwd"}`,
		"a UID cut badly":   `{"digest": "uid:7f0a7f0e8a5-4a0b"}`,
		"a long UID":        `{"digest": "uid:` + strings.Repeat("a", 64) + `"}`,
		"too long":          `{"digest": "` + digest + `", "checksum": "` + strings.Repeat("a", 64<<10) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := golden.ParseRevision(text)
			require.Error(t, err)
		})
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, "fedora-9f86d081884c", golden.ClaimName("fedora", digest))
	require.Equal(t, "fedora-7f0a7f0e-8a5", golden.ClaimName("fedora", "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"))
	second := golden.SecondClaimName("fedora", digest, "fast")
	require.Regexp(t, "^fedora-[0-9a-f]{12}$", second)
	require.NotEqual(t, golden.ClaimName("fedora", digest), second)
	require.NotEqual(t, second, golden.SecondClaimName("fedora", digest, "slow"))
}

func TestValidatorDigest(t *testing.T) {
	pin := v1alpha1.Pin{ETag: `"a"`, LastModified: "Tue, 30 Apr 2024 13:22:27 GMT", Length: 7}
	base := golden.ValidatorDigest("https://images.example.org/disk", &pin)
	require.NoError(t, golden.CheckDigest(base))
	require.Equal(t, base, golden.ValidatorDigest("https://images.example.org/disk", &pin))
	for name, change := range map[string]func(*v1alpha1.Pin){
		"etag":         func(p *v1alpha1.Pin) { p.ETag = `"b"` },
		"lastModified": func(p *v1alpha1.Pin) { p.LastModified = "" },
		"length":       func(p *v1alpha1.Pin) { p.Length++ },
	} {
		other := pin
		change(&other)
		require.NotEqual(t, base, golden.ValidatorDigest("https://images.example.org/disk", &other), name)
	}
	require.NotEqual(t, base, golden.ValidatorDigest("https://images.example.org/other", &pin))
}
