package source

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"
)

// connectionError gives a failed request its reason. err must not hold the URL.
func connectionError(u *url.URL, err error, now time.Time) error {
	at := "connecting to " + u.Scheme + "://" + u.Host
	var own *Error
	if errors.As(err, &own) {
		return failBy(own.reason, at, own)
	}
	if e := certificateError(at, err, now); e != nil {
		return e
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		if lookup.IsNotFound {
			return fail(HostNotFound, fmt.Sprintf("%s: the host name %s does not exist: check the URL", at, lookup.Name))
		}
		return fail(LookupFailed, fmt.Sprintf("%s: the name server did not give the address of %s", at, lookup.Name))
	}
	return failBy(ConnectionFailed, at, plain(err))
}

// plain keeps of an error what comes from the system. Errors of net/http repeat what the
// server sent, for example a Location with a secret in its query.
func plain(err error) error {
	var operation *net.OpError
	var network net.Error
	switch {
	case errors.As(err, &operation):
		return operation
	case errors.As(err, &network) && network.Timeout():
		return errors.New("no answer came in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the connection ended early")
	}
	return errors.New("the answer is not valid HTTP")
}

// certificateError returns nil for what has nothing to do with TLS.
func certificateError(at string, err error, now time.Time) *Error {
	const help = "give the right CA certificate, or mend the server's"
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var operation *net.OpError
	switch {
	case errors.As(err, &verification) && len(verification.UnverifiedCertificates) > 0:
		c := verification.UnverifiedCertificates[0]
		return fail(CertificateError, fmt.Sprintf("%s: %s: %s: %s", at, verdict(verification.Err, c, now), describe(c), help))
	case errors.As(err, &record):
		return fail(CertificateError, at+": the server does not speak TLS: use http, or another port")
	case errors.As(err, &operation) && operation.Op == "remote error":
		return failBy(CertificateError, at+": the server refuses the TLS connection", operation.Err)
	case strings.HasPrefix(err.Error(), "tls: "):
		return failBy(CertificateError, at, err)
	}
	return nil
}

func verdict(err error, c *x509.Certificate, now time.Time) string {
	var host x509.HostnameError
	switch {
	case now.After(c.NotAfter):
		return "the certificate has expired"
	case now.Before(c.NotBefore):
		return "the certificate is not valid yet"
	case errors.As(err, &host):
		return "the certificate is for another host"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "the certificate is signed by an unknown authority"
	}
	return "the certificate is not valid: " + err.Error()
}

// describe names a certificate for somebody who must find the right one.
func describe(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	const day = "2006-01-02"
	return fmt.Sprintf("subject %q, issuer %q, for %s, valid %s to %s",
		c.Subject, c.Issuer, strings.Join(names[:min(len(names), 5)], " "), c.NotBefore.UTC().Format(day), c.NotAfter.UTC().Format(day))
}
