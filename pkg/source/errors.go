package source

import (
	"fmt"
	"time"
)

// The reasons why a source cannot be read. They are the words that the importer reports.
const (
	ConnectionFailed     = "ConnectionFailed"
	LookupFailed         = "LookupFailed"
	ServerError          = "ServerError"
	TooManyRequests      = "TooManyRequests"
	Stalled              = "Stalled"
	SourceUnstable       = "SourceUnstable"
	InvalidSecret        = "InvalidSecret"
	InvalidCertificates  = "InvalidCertificates"
	AuthenticationFailed = "AuthenticationFailed"
	NotFound             = "NotFound"
	HostNotFound         = "HostNotFound"
	CertificateError     = "CertificateError"
	RedirectRefused      = "RedirectRefused"
	AddressRefused       = "AddressRefused"
	SourceRefused        = "SourceRefused"
	SourceChanged        = "SourceChanged"
	EmptySource          = "EmptySource"
	NoDisk               = "NoDisk"
	SeveralDisks         = "SeveralDisks"
)

// Error is a failure of a source. Its text holds no secret and no URL query.
type Error struct {
	reason     string
	message    string
	cause      error
	retryAfter time.Duration
	startOver  bool
	// whole tells an answer that is the whole image of the same revision in place of a part.
	whole bool
}

func fail(reason, message string) *Error { return &Error{reason: reason, message: message} }

func failBy(reason, message string, cause error) *Error {
	return &Error{reason: reason, message: message, cause: cause}
}

// Error returns the message and its cause.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.message
	}
	return fmt.Sprintf("%s: %v", e.message, e.cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Reason is one of the reasons above.
func (e *Error) Reason() string { return e.reason }

// RetryAfter is how long the source asks to wait, 0 when it does not say.
func (e *Error) RetryAfter() time.Duration { return e.retryAfter }

// StartOver tells that the image can be opened again and read from its first byte, but not
// resumed: it changed, or the server cannot send a part of it.
func (e *Error) StartOver() bool { return e.startOver }

// Transient tells of a reason that the same request may succeed later.
func Transient(reason string) bool {
	switch reason {
	case ConnectionFailed, LookupFailed, ServerError, TooManyRequests, Stalled:
		return true
	}
	return false
}
