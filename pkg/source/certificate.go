package source

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ReadCAs returns the system's certificates and those of every regular file in dir, which
// must be PEM. An empty dir returns nil: the system's alone.
func ReadCAs(dir string) (*x509.CertPool, error) {
	if dir == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		// An image without system certificates trusts those of the directory alone.
		pool = x509.NewCertPool()
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fail(InvalidCertificates, "reading certificates: the CA directory cannot be read")
	}
	files := 0
	for _, entry := range entries {
		// Kubernetes keeps the real files in ..data and links to them.
		if strings.HasPrefix(entry.Name(), "..") {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		pem, err := os.ReadFile(path)
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return nil, fail(InvalidCertificates, fmt.Sprintf("reading certificates: %s holds no PEM certificate", entry.Name()))
		}
		files++
	}
	if files == 0 {
		return nil, fail(InvalidCertificates, "reading certificates: the CA directory holds no file")
	}
	return pool, nil
}
