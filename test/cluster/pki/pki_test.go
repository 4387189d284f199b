package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
)

func parse(t *testing.T, content []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(content)
	require.NotNil(t, block)
	certificate, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return certificate
}

func TestIssue(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	authority, err := NewAuthority("gild test", now)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(authority.CertificatePEM))

	for name, test := range map[string]struct {
		id     Identity
		server bool
	}{
		"client": {id: Identity{CommonName: "system:node:one", Groups: []string{"system:nodes"}}},
		"server": {
			id:     Identity{CommonName: "kube-apiserver", DNSNames: []string{"kubernetes.default.svc"}, Addresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
			server: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := authority.Issue(test.id)
			require.NoError(t, err)
			_, err = tls.X509KeyPair(pair.CertificatePEM, pair.KeyPEM)
			require.NoError(t, err)

			certificate := parse(t, pair.CertificatePEM)
			require.Equal(t, test.id.CommonName, certificate.Subject.CommonName)
			require.Equal(t, test.id.Groups, certificate.Subject.Organization)

			verify := func(at time.Time, usage x509.ExtKeyUsage) error {
				_, err := certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
				return err
			}
			require.NoError(t, verify(now, x509.ExtKeyUsageClientAuth))
			require.Error(t, verify(now.Add(Lifetime+time.Hour), x509.ExtKeyUsageClientAuth))
			if !test.server {
				require.Error(t, verify(now, x509.ExtKeyUsageServerAuth))
				return
			}
			require.NoError(t, verify(now, x509.ExtKeyUsageServerAuth))
			require.NoError(t, certificate.VerifyHostname("kubernetes.default.svc"))
			require.NoError(t, certificate.VerifyHostname("10.0.0.1"))
			require.Error(t, certificate.VerifyHostname("10.0.0.2"))
		})
	}
}

func TestKubeconfigIsReadByClientGo(t *testing.T) {
	authority, err := NewAuthority("gild test", time.Now())
	require.NoError(t, err)
	pair, err := authority.Issue(Identity{CommonName: "admin", Groups: []string{"system:masters"}})
	require.NoError(t, err)
	content, err := Kubeconfig("https://10.0.0.1:6443", authority.CertificatePEM, pair)
	require.NoError(t, err)

	config, err := clientcmd.RESTConfigFromKubeConfig(content)
	require.NoError(t, err)
	require.Equal(t, "https://10.0.0.1:6443", config.Host)
	require.Equal(t, authority.CertificatePEM, config.CAData)
	require.Equal(t, pair.CertificatePEM, config.CertData)
	require.Equal(t, pair.KeyPEM, config.KeyData)
}

func TestNewSigningKey(t *testing.T) {
	private, public, err := NewSigningKey()
	require.NoError(t, err)
	privateBlock, _ := pem.Decode(private)
	require.NotNil(t, privateBlock)
	key, err := x509.ParseECPrivateKey(privateBlock.Bytes)
	require.NoError(t, err)
	publicBlock, _ := pem.Decode(public)
	require.NotNil(t, publicBlock)
	parsed, err := x509.ParsePKIXPublicKey(publicBlock.Bytes)
	require.NoError(t, err)
	require.True(t, key.PublicKey.Equal(parsed))
}
