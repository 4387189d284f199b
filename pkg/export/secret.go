package export

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// validity of a certificate: longer than any copy should take.
	validity = 24 * time.Hour
	// skew is how much the clocks of nodes may differ.
	skew = 5 * time.Minute
	// tokenBytes are 256 bits: nobody guesses them.
	tokenBytes = 32
)

// newSecret makes the key, certificate and token of an export.
func newSecret(spec Spec, now time.Time) (*corev1.Secret, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key of an export: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("making the certificate of an export: %w", err)
	}
	// It is trusted by itself and can sign no other one.
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{Organization: []string{"gild"}, CommonName: "export"},
		DNSNames:     []string{hostOf(spec)},
		NotBefore:    now.Add(-skew), NotAfter: now.Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of an export: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key of an export: %w", err)
	}
	token := make([]byte, tokenBytes)
	if _, err := rand.Read(token); err != nil {
		return nil, fmt.Errorf("making the token of an export: %w", err)
	}
	return &corev1.Secret{ObjectMeta: metaOf(spec), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{
		keyCertificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		keyKey:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		keyToken:       []byte(hex.EncodeToString(token)),
	}}, nil
}

// expiry is when the certificate of an export ends. An error never repeats what the Secret holds.
func expiry(secret *corev1.Secret) (time.Time, error) {
	pair, err := tls.X509KeyPair(secret.Data[keyCertificate], secret.Data[keyKey])
	if err != nil {
		return time.Time{}, errors.New("it has no certificate with its key")
	}
	if len(secret.Data[keyToken]) != hex.EncodedLen(tokenBytes) {
		return time.Time{}, errors.New("it has no token")
	}
	return pair.Leaf.NotAfter, nil
}
