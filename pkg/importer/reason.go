package importer

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"time"
)

// Reason says in one CamelCase word how a run ended. Each has one exit code.
type Reason string

// Exit codes. The controller decides by them alone: 1 is tried again, the others are final.
const (
	ExitDone         = 0  // the disk is on the volume, verified and synced
	ExitTransient    = 1  // network, busy server, or killed: try again
	ExitOptions      = 2  // wrong flags or set-up
	ExitSource       = 10 // the source refuses or is gone
	ExitVerification = 11 // the bytes are not the promised ones
	ExitImage        = 12 // the image is refused
	ExitSpace        = 13 // the disk does not fit
	ExitTarget       = 14 // the target cannot be written
)

// All reasons. source, format and target spell theirs as plain strings, because they must
// not import this package; a test in cmd/importer checks that each is one of these.
const (
	Imported Reason = "Imported"
	Probed   Reason = "Probed"

	Interrupted      Reason = "Interrupted"
	ConnectionFailed Reason = "ConnectionFailed"
	LookupFailed     Reason = "LookupFailed"
	ServerError      Reason = "ServerError"
	TooManyRequests  Reason = "TooManyRequests"
	Stalled          Reason = "Stalled"
	SourceUnstable   Reason = "SourceUnstable"

	InvalidOptions      Reason = "InvalidOptions"
	InvalidSecret       Reason = "InvalidSecret"
	InvalidCertificates Reason = "InvalidCertificates"
	ScratchRequired     Reason = "ScratchRequired"
	ScratchError        Reason = "ScratchError"
	InternalError       Reason = "InternalError"

	AuthenticationFailed Reason = "AuthenticationFailed"
	NotFound             Reason = "NotFound"
	HostNotFound         Reason = "HostNotFound"
	CertificateError     Reason = "CertificateError"
	RedirectRefused      Reason = "RedirectRefused"
	AddressRefused       Reason = "AddressRefused"
	SourceRefused        Reason = "SourceRefused"
	PlatformNotFound     Reason = "PlatformNotFound"
	LengthUnknown        Reason = "LengthUnknown"

	ChecksumMismatch  Reason = "ChecksumMismatch"
	DigestMismatch    Reason = "DigestMismatch"
	SignatureRejected Reason = "SignatureRejected"
	SourceChanged     Reason = "SourceChanged"

	UnsupportedFormat Reason = "UnsupportedFormat"
	FormatMismatch    Reason = "FormatMismatch"
	AmbiguousFormat   Reason = "AmbiguousFormat"
	UnexpectedContent Reason = "UnexpectedContent"
	EmptySource       Reason = "EmptySource"
	NoDisk            Reason = "NoDisk"
	SeveralDisks      Reason = "SeveralDisks"
	CorruptImage      Reason = "CorruptImage"
	TruncatedImage    Reason = "TruncatedImage"
	UnsafeImage       Reason = "UnsafeImage"
	ConversionFailed  Reason = "ConversionFailed"

	TooLarge       Reason = "TooLarge"
	NoSpace        Reason = "NoSpace"
	NoScratchSpace Reason = "NoScratchSpace"

	TargetError Reason = "TargetError"
)

// ReasonInfo is one row of the table of reasons in docs/importer.md.
type ReasonInfo struct {
	Reason Reason
	Exit   int
	// Meaning is one sentence for people.
	Meaning string
}

// Reasons is the one table of reasons and exit codes, in the order of the exit codes.
func Reasons() []ReasonInfo {
	return []ReasonInfo{
		{Imported, ExitDone, "The whole disk is on the volume, verified and synced."},
		{Probed, ExitDone, "Dry run: the image could be imported."},

		{Interrupted, ExitTransient, "The importer was told to stop."},
		{ConnectionFailed, ExitTransient, "The source cannot be reached, or the connection broke too often."},
		{LookupFailed, ExitTransient, "The name server did not answer."},
		{ServerError, ExitTransient, "The source answers with a server error (5xx)."},
		{TooManyRequests, ExitTransient, "The source asks to come back later (429)."},
		{Stalled, ExitTransient, "The source is connected but sends nothing."},
		{SourceUnstable, ExitTransient, "The source changed during every try, or broke without a way to resume."},

		{InvalidOptions, ExitOptions, "A flag is wrong."},
		{InvalidSecret, ExitOptions, "A file in the secret directory cannot be used."},
		{InvalidCertificates, ExitOptions, "A file in the CA directory holds no certificate."},
		{ScratchRequired, ExitOptions, "This image needs a scratch directory: give --scratch-dir."},
		{ScratchError, ExitOptions, "The scratch directory cannot be written."},
		{InternalError, ExitOptions, "The importer itself is at fault or incomplete, for example without qemu-img."},

		{AuthenticationFailed, ExitSource, "The source or a proxy refuses the credentials (401, 403, 407)."},
		{NotFound, ExitSource, "The source has no such image (404, 410)."},
		{HostNotFound, ExitSource, "The host name does not exist."},
		{CertificateError, ExitSource, "The certificate of the source is not trusted."},
		{RedirectRefused, ExitSource, "The source redirects where the importer does not go."},
		{AddressRefused, ExitSource, "The source is at an address that is never contacted."},
		{SourceRefused, ExitSource, "The source refuses the request for another reason."},
		{PlatformNotFound, ExitSource, "The image exists, but not for this platform."},
		{LengthUnknown, ExitSource, "Nothing would tell a cut image from a whole one."},

		{ChecksumMismatch, ExitVerification, "The bytes do not have the expected checksum."},
		{DigestMismatch, ExitVerification, "The bytes are not those that the image's manifest or reference names."},
		{SignatureRejected, ExitVerification, "The signature policy does not accept the image."},
		{SourceChanged, ExitVerification, "The source is no longer the pinned revision."},

		{UnsupportedFormat, ExitImage, "The format is recognised and not supported."},
		{FormatMismatch, ExitImage, "The image does not have the format it must have."},
		{AmbiguousFormat, ExitImage, "The image is two formats at once."},
		{UnexpectedContent, ExitImage, "The content is no disk, for example a login page."},
		{EmptySource, ExitImage, "The source has no bytes."},
		{NoDisk, ExitImage, "There is no disk in the container image, archive or directory."},
		{SeveralDisks, ExitImage, "There is more than one disk, and nothing says which is meant."},
		{CorruptImage, ExitImage, "The image contradicts itself."},
		{TruncatedImage, ExitImage, "The image refers to bytes beyond its end."},
		{UnsafeImage, ExitImage, "The image refers to other files or is encrypted."},
		{ConversionFailed, ExitImage, "The image cannot be converted within the limits."},

		{TooLarge, ExitSpace, "The disk is larger than the volume can hold."},
		{NoSpace, ExitSpace, "The volume is full."},
		{NoScratchSpace, ExitSpace, "The scratch directory is full."},

		{TargetError, ExitTarget, "The volume cannot be written."},
	}
}

// ExitCode returns the code of a reason. An unknown one counts as a fault of the importer.
func (r Reason) ExitCode() int {
	for _, row := range Reasons() {
		if row.Reason == r {
			return row.Exit
		}
	}
	return ExitOptions
}

// Known tells whether the table has the reason.
func (r Reason) Known() bool {
	return slices.ContainsFunc(Reasons(), func(row ReasonInfo) bool { return row.Reason == r })
}

// Error is a failure with its reason.
type Error struct {
	Reason Reason
	// RetryAfter is how long the source asks to wait. 0 when it does not say.
	RetryAfter time.Duration
	Err        error
}

// Error returns the message without the reason.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// reasoned is what the errors of source, format and target offer.
type reasoned interface {
	error
	Reason() string
}

// patient is an error of a source that says when to come back.
type patient interface {
	RetryAfter() time.Duration
}

// Classify gives every error its reason. An error that nobody classified is transient only
// when it is of the network: trying again would not mend anything else.
func Classify(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return &Error{Reason: known.Reason, RetryAfter: known.RetryAfter, Err: err}
	}
	var part reasoned
	if errors.As(err, &part) && Reason(part.Reason()).Known() {
		e := &Error{Reason: Reason(part.Reason()), Err: err}
		var wait patient
		if errors.As(err, &wait) {
			e.RetryAfter = wait.RetryAfter()
		}
		return e
	}
	return &Error{Reason: unclassified(err), Err: err}
}

func unclassified(err error) Reason {
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return Interrupted
	// Disk errors first: every syscall.Errno also looks like a net.Error.
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return NoSpace
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return TargetError
	case errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPIPE):
		return ConnectionFailed
	}
	return InternalError
}
