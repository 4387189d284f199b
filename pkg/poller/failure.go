package poller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/imagestream"
)

// Reasons of the condition SourcePolled. Those of a source that cannot be read come from
// whoever has probed it, those of missing Secrets from pkg/credentials.
const (
	reasonFound       = "Found"
	reasonChanged     = "Changed"
	reasonNotModified = "NotModified"

	reasonIllegalSchedule = "IllegalSchedule"
	reasonIllegalSource   = "IllegalSource"
	reasonIllegalDigest   = "IllegalDigest"
	reasonNoValidator     = "NoValidator"
	reasonNotAuthorized   = "NotAuthorized"
	reasonClaimNotFound   = "ClaimNotFound"
	reasonStalled         = "Stalled"
	reasonPollFailed      = "PollFailed"
)

// failure is why a poll has found nothing. Its message says what to do, and holds no secret.
type failure struct {
	reason, message string
	// permanent tells that trying again soon would not help.
	permanent bool
	// retryAfter is how long the source asks to wait, 0 when it does not say.
	retryAfter time.Duration
}

// Error is the message.
func (f *failure) Error() string { return f.message }

// hopeless is a failure that does not pass by itself.
func hopeless(reason, format string, args ...any) *failure {
	return &failure{reason: reason, permanent: true, message: fmt.Sprintf(format, args...)}
}

// passing is a failure that may pass.
func passing(reason, format string, args ...any) *failure {
	return &failure{reason: reason, message: fmt.Sprintf(format, args...)}
}

// permanent are the reasons of probes that mend only when somebody does something.
func permanent() []string {
	return []string{
		"AuthenticationFailed", "NotFound", "CertificateError", "InvalidCertificates", "InvalidSecret", "RedirectRefused",
		"AddressRefused", "SourceRefused", "PlatformNotFound", "SignatureRejected", "UnsupportedFormat",
	}
}

// classify turns the error of a poll into its failure.
func classify(err error) *failure {
	var known *failure
	var refusal *credentials.Refusal
	var stream *imagestream.Refusal
	var reasoned interface{ Reason() string }
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &refusal):
		return passing(refusal.Reason, "%s", err)
	case errors.As(err, &stream):
		return &failure{reason: stream.Reason, message: err.Error(), permanent: stream.Reason == imagestream.Unsupported}
	case errors.As(err, &reasoned) && reasoned.Reason() != "":
		f := &failure{reason: reasoned.Reason(), message: err.Error(), permanent: slices.Contains(permanent(), reasoned.Reason())}
		var patient interface{ RetryAfter() time.Duration }
		if errors.As(err, &patient) {
			f.retryAfter = patient.RetryAfter()
		}
		return f
	case errors.Is(err, context.DeadlineExceeded):
		return passing(reasonStalled, "the source has not answered within %s", pollTimeout)
	}
	return passing(reasonPollFailed, "%s", err)
}
