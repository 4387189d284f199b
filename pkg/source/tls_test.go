package source_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/source"
)

func pool(certificates ...*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certificates {
		p.AddCert(c)
	}
	return p
}

// authority signs certificates for the local host.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: newClock().now.Add(-10 * 365 * 24 * time.Hour), NotAfter: newClock().now.Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return authority{certificate, key}
}

func (a authority) sign(t *testing.T, host net.IP, from, to time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "images.example"}, IPAddresses: []net.IP{host},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestCertificates(t *testing.T) {
	good, foreign := newAuthority(t, "good-ca"), newAuthority(t, "foreign-ca")
	local, now, day := net.ParseIP("127.0.0.1"), newClock().now, 24*time.Hour
	for name, c := range map[string]struct {
		certificate tls.Certificate
		config      *tls.Config
		says        []string
	}{
		"good":                      {certificate: good.sign(t, local, now.Add(-day), now.Add(day))},
		"expired":                   {certificate: good.sign(t, local, now.Add(-20*day), now.Add(-10*day)), says: []string{"has expired", "images.example", "good-ca", now.Add(-10 * day).UTC().Format("2006-01-02")}},
		"not yet valid":             {certificate: good.sign(t, local, now.Add(10*day), now.Add(20*day)), says: []string{"not valid yet", now.Add(10 * day).UTC().Format("2006-01-02")}},
		"wrong CA":                  {certificate: foreign.sign(t, local, now.Add(-day), now.Add(day)), says: []string{"unknown authority", "foreign-ca", "images.example"}},
		"wrong name":                {certificate: good.sign(t, net.ParseIP("192.0.2.1"), now.Add(-day), now.Add(day)), says: []string{"another host", "192.0.2.1"}},
		"TLS 1.1":                   {certificate: good.sign(t, local, now.Add(-day), now.Add(day)), config: tlsVersions(tls.VersionTLS10, tls.VersionTLS11), says: []string{"TLS"}},
		"client certificate wanted": {certificate: good.sign(t, local, now.Add(-day), now.Add(day)), config: &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, says: []string{"refuses the TLS connection"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, []byte("body"))
			secure := httptest.NewUnstartedServer(s)
			secure.TLS = &tls.Config{}
			if c.config != nil {
				secure.TLS = c.config
			}
			secure.TLS.Certificates = []tls.Certificate{c.certificate}
			secure.Config.ErrorLog = quiet()
			secure.StartTLS()
			defer secure.Close()
			clock := newClock()
			o := options(clock)
			o.CAs = pool(good.certificate)
			if c.says == nil {
				open(t, secure.URL+"/?"+canary, o)
				return
			}
			e := failure(t, secure.URL+"/?"+canary, o)
			require.Equal(t, source.CertificateError, e.Reason(), e)
			for _, text := range c.says {
				require.ErrorContains(t, e, text)
			}
			require.Empty(t, clock.waits, "a wrong certificate does not get better")
			require.Zero(t, s.count())
		})
	}
}

func TestPlainServerBehindHTTPS(t *testing.T) {
	s := newSite(t, []byte("body"))
	e := failure(t, "https"+s.URL[len("http"):]+"/?"+canary, options(newClock()))
	require.Equal(t, source.CertificateError, e.Reason())
	require.ErrorContains(t, e, "does not speak TLS")
}

func TestSystemCertificatesAreNotEnough(t *testing.T) {
	secure := httptest.NewUnstartedServer(newSite(t, []byte("body")))
	secure.Config.ErrorLog = quiet()
	secure.StartTLS()
	defer secure.Close()
	require.Equal(t, source.CertificateError, failure(t, secure.URL, options(newClock())).Reason())
}

func TestReadCAs(t *testing.T) {
	a, b := newAuthority(t, "a"), newAuthority(t, "b")
	encode := func(c *x509.Certificate) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	secure := httptest.NewUnstartedServer(newSite(t, []byte("body")))
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{b.sign(t, net.ParseIP("127.0.0.1"), newClock().now.Add(-time.Hour), newClock().now.Add(time.Hour))}}
	secure.StartTLS()
	defer secure.Close()

	dir := mounted(t, map[string][]byte{"a.crt": encode(a.certificate), "ca.crt": encode(b.certificate)})
	cas, err := source.ReadCAs(dir)
	require.NoError(t, err)
	o := options(newClock())
	o.CAs = cas
	open(t, secure.URL, o)

	none, err := source.ReadCAs("")
	require.NoError(t, err)
	require.Nil(t, none)
	for name, dir := range map[string]string{
		"no directory": filepath.Join(dir, "none"), "no file": t.TempDir(), "no PEM": mounted(t, map[string][]byte{"ca.crt": []byte(canary)}),
	} {
		_, err := source.ReadCAs(dir)
		var e *source.Error
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, source.InvalidCertificates, e.Reason())
		require.NotContains(t, err.Error(), canary)
	}
}

// mounted writes files as the kubelet mounts a Secret or ConfigMap: real files in a dated
// directory, a link ..data to it, and a link for each key.
func mounted(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	dated := filepath.Join(dir, "..2026_11_21_00_00_00.123456789")
	require.NoError(t, os.Symlink(filepath.Base(dated), filepath.Join(dir, "..data")))
	for name, content := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dated, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dated, name), content, 0o400))
		// Only the first part of a path gets a link.
		first := name
		for filepath.Dir(first) != "." {
			first = filepath.Dir(first)
		}
		if _, err := os.Lstat(filepath.Join(dir, first)); os.IsNotExist(err) {
			require.NoError(t, os.Symlink(filepath.Join("..data", first), filepath.Join(dir, first)))
		}
	}
	return dir
}
