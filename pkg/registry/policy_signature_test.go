//go:build containers_image_openpgp

package registry_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	distribution "github.com/docker/distribution/configuration"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/openpgp"        //nolint:staticcheck // what containers/image verifies with, in this build
	"golang.org/x/crypto/openpgp/packet" //nolint:staticcheck // the same

	"github.com/gild-project/gild/pkg/registry"
)

// signer signs by GPG and by sigstore.
type signer struct {
	gpg *openpgp.Entity
	key *ecdsa.PrivateKey
	// gpgFile and keyFile are the public halves.
	gpgFile, keyFile string
}

func newSigner(t *testing.T) signer {
	t.Helper()
	gpg, err := openpgp.NewEntity("signer", "", "signer@example.com", &packet.Config{DefaultHash: crypto.SHA256})
	require.NoError(t, err)
	// Only this signs the key itself.
	require.NoError(t, gpg.SerializePrivate(io.Discard, nil))
	var public bytes.Buffer
	require.NoError(t, gpg.Serialize(&public))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	return signer{
		gpg: gpg, key: key, gpgFile: file(t, "key.gpg", public.Bytes()),
		keyFile: file(t, "key.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
	}
}

// payload is what both ways sign.
func payload(t *testing.T, kind, ref string, d digest.Digest) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"type": kind, "image": map[string]any{"docker-manifest-digest": d.String()}, "identity": map[string]any{"docker-reference": ref},
		},
		"optional": map[string]any{"creator": "test"},
	})
	require.NoError(t, err)
	return raw
}

// signByGPG stores a signature below lookaside, as registries.d names it.
func (s signer) signByGPG(t *testing.T, lookaside, ref string, d digest.Digest) {
	t.Helper()
	dir := filepath.Join(lookaside, "disk@"+d.Algorithm().String()+"="+d.Encoded())
	require.NoError(t, os.MkdirAll(dir, 0o755))
	var signed bytes.Buffer
	w, err := openpgp.Sign(&signed, s.gpg, nil, nil)
	require.NoError(t, err)
	_, err = w.Write(payload(t, "atomic container signature", ref, d))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "signature-1"), signed.Bytes(), 0o600))
}

// signBySigstore stores a signature as an image beside the signed one.
func (s signer) signBySigstore(t *testing.T, h *house, ref string, d digest.Digest) {
	t.Helper()
	text := payload(t, "cosign container image signature", ref, d)
	sum := sha256.Sum256(text)
	signature, err := s.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	require.NoError(t, err)
	m := h.ociManifest(t, "disk")
	layer := h.pushBlob(t, "disk", "application/vnd.dev.cosign.simplesigning.v1+json", text)
	layer.Annotations = map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature)}
	m.Layers = []imgspec.Descriptor{layer}
	h.pushManifest(t, "disk", strings.ReplaceAll(d.String(), ":", "-")+".sig", imgspec.MediaTypeImageManifest, m)
}

// signing is a configuration directory for a registry, with policy as the rule for it.
func signing(t *testing.T, h *house, lookaside, conf, policy string) string {
	t.Helper()
	dir := configured(t, conf)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "registries.d"), 0o755))
	where := fmt.Sprintf("docker:\n  %q:\n    lookaside: file://%s\n    use-sigstore-attachments: true\n", h.host(), lookaside)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "registries.d", "house.yaml"), []byte(where), 0o600))
	text := fmt.Sprintf(`{"default":[{"type":"reject"}],"transports":{"docker":{%q:[%s]}}}`, h.host(), policy)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "policy.json"), []byte(text), 0o600))
	return dir
}

func (s signer) byGPG() string {
	return fmt.Sprintf(`{"type":"signedBy","keyType":"GPGKeys","keyPath":%q}`, s.gpgFile)
}

func (s signer) bySigstore() string {
	return fmt.Sprintf(`{"type":"sigstoreSigned","keyPath":%q,"signedIdentity":{"type":"matchRepository"}}`, s.keyFile)
}

func TestSignatures(t *testing.T) {
	mine, foreign := newSigner(t), newSigner(t)
	h := newHouse(t, htpasswd(t))
	conf := fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", h.host())
	lookaside := t.TempDir()
	host := h.host()
	name := host + "/disk"
	push := func(tag string) digest.Digest { return h.pushImage(t, "disk", tag, []byte(tag)).Digest }

	push("unsigned")
	mine.signByGPG(t, lookaside, name+":gpg", push("gpg"))
	foreign.signByGPG(t, lookaside, name+":foreign", push("foreign"))
	mine.signByGPG(t, lookaside, name+":other", push("renamed"))
	mine.signBySigstore(t, h, name, push("sigstore"))
	foreign.signBySigstore(t, h, name, push("sigstore-foreign"))
	mine.signBySigstore(t, h, host+"/other", push("sigstore-renamed"))
	images := pushIndex(t, h, "index", "linux/amd64", "linux/arm64")
	mine.signBySigstore(t, h, name, images["linux/amd64"].Digest)

	for policy, cases := range map[string]map[string]string{
		mine.byGPG(): {
			"gpg": "", "unsigned": "SignatureRejected", "foreign": "SignatureRejected", "renamed": "SignatureRejected", "sigstore": "SignatureRejected",
		},
		mine.bySigstore(): {
			"sigstore": "", "unsigned": "SignatureRejected", "sigstore-foreign": "SignatureRejected", "sigstore-renamed": "SignatureRejected", "index": "",
		},
		`{"type":"insecureAcceptAnything"}`: {"unsigned": "", "index": ""},
		`{"type":"reject"}`:                 {"gpg": "SignatureRejected"},
		`{"type":"signedBy","keyType":"GPGKeys","keyPath":"/nowhere/key.gpg"}`: {"gpg": "InvalidOptions"},
	} {
		for tag, reason := range cases {
			o, _ := options(t)
			o.ConfigDir, o.Credentials = signing(t, h, lookaside, conf, policy), password(t)
			ref := "docker://" + name + ":" + tag
			if reason != "" {
				err := refused(t, ref, o, reason)
				require.ErrorContains(t, err, "policy.json", "%s under %s", tag, policy)
				continue
			}
			image, err := registry.Open(t.Context(), ref, o)
			require.NoError(t, err, "%s under %s", tag, policy)
			require.NoError(t, image.Close())
			o.Digest = image.Digest()
			_, err = registry.Open(t.Context(), ref, o)
			require.NoError(t, err, "%s pinned, under %s", tag, policy)
		}
	}
	o, _ := options(t)
	o.ConfigDir, o.Credentials, o.Platform = signing(t, h, lookaside, conf, mine.bySigstore()), password(t), "linux/arm64"
	failure(t, "docker://"+name+":index", o, "SignatureRejected")
}

// TestSignaturesBehindTLS needs the certificates for the signatures too.
func TestSignaturesBehindTLS(t *testing.T) {
	mine := newSigner(t)
	h, caDir := newTLSHouse(t, htpasswd(t))
	d := h.pushImage(t, "disk", "1", []byte("layer"))
	mine.signBySigstore(t, h, h.host()+"/disk", d.Digest)
	o, _ := options(t)
	o.ConfigDir, o.CADir, o.Credentials = signing(t, h, t.TempDir(), "", mine.bySigstore()), caDir, password(t)
	require.Equal(t, d.Digest.String(), open(t, "docker://"+h.host()+"/disk:1", o).Digest())
}

// TestTheVerifiedManifestIsTheOneImported moves the tag to a signed image when the signatures are
// asked for, after the unsigned one was read.
func TestTheVerifiedManifestIsTheOneImported(t *testing.T) {
	mine := newSigner(t)
	h := newHouse(t, distribution.Auth{})
	lookaside := t.TempDir()
	h.pushImage(t, "disk", "1", []byte("unsigned"))
	signed := h.ociManifest(t, "disk", []byte("signed"))
	d := h.pushManifest(t, "disk", "2", imgspec.MediaTypeImageManifest, signed)
	mine.signByGPG(t, lookaside, h.host()+"/disk:1", d.Digest)
	first := true
	h.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/v2/") && first {
			// containers/image begins so.
			first = false
			h.pushManifest(t, "disk", "1", imgspec.MediaTypeImageManifest, signed)
		}
		return false
	}
	o, _ := options(t)
	o.ConfigDir = signing(t, h, lookaside, fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", h.host()), mine.byGPG())
	err := refused(t, "docker://"+h.host()+"/disk:1", o, "SourceUnstable")
	require.False(t, first)
	var again interface{ StartOver() bool }
	require.ErrorAs(t, err, &again)
	require.True(t, again.StartOver())
	require.Equal(t, d.Digest.String(), open(t, "docker://"+h.host()+"/disk:1", o).Digest())
}

// TestSignaturesThatCannotBeHad are told from those that are wrong.
func TestSignaturesThatCannotBeHad(t *testing.T) {
	mine := newSigner(t)
	for status, reason := range map[int]string{503: "ServerError", 403: "SignatureRejected"} {
		h := newHouse(t, distribution.Auth{})
		h.pushImage(t, "disk", "1", []byte("layer"))
		h.spoil = func(w http.ResponseWriter, r *http.Request) bool {
			hit := strings.HasSuffix(r.URL.Path, ".sig")
			if hit {
				w.WriteHeader(status)
			}
			return hit
		}
		o, _ := options(t)
		o.ConfigDir = signing(t, h, t.TempDir(), fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", h.host()), mine.bySigstore())
		failure(t, "docker://"+h.host()+"/disk:1", o, reason)
	}
}

func TestPoliciesForLayouts(t *testing.T) {
	mine := newSigner(t)
	d := draw(t, []byte("layer"), plan{})
	for policy, reason := range map[string]string{
		`{"default":[{"type":"insecureAcceptAnything"}]}`: "",
		`{"default":[{"type":"reject"}]}`:                 "SignatureRejected",
		`{"default":[` + mine.byGPG() + `]}`:              "SignatureRejected",
		`{"default":[{"type":"reject"}],"transports":{"oci":{"":[{"type":"insecureAcceptAnything"}]},"oci-archive":{"":[{"type":"insecureAcceptAnything"}]}}}`: "",
		`{"default":[]}`: "InvalidOptions",
		`{`:              "InvalidOptions",
	} {
		for _, ref := range d.both(t) {
			o, _ := options(t)
			require.NoError(t, os.WriteFile(filepath.Join(o.ConfigDir, "policy.json"), []byte(policy), 0o600))
			if reason == "" {
				open(t, ref+":latest", o)
				continue
			}
			failure(t, ref+":latest", o, reason)
		}
	}
}
