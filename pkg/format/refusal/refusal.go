// Package refusal says why an image is not taken, in the words that the importer reports.
package refusal

import "fmt"

// The reasons why an image is refused. They are the words that the importer reports.
const (
	UnsupportedFormat = "UnsupportedFormat"
	FormatMismatch    = "FormatMismatch"
	AmbiguousFormat   = "AmbiguousFormat"
	UnexpectedContent = "UnexpectedContent"
	EmptySource       = "EmptySource"
	CorruptImage      = "CorruptImage"
	TruncatedImage    = "TruncatedImage"
	UnsafeImage       = "UnsafeImage"
	NoDisk            = "NoDisk"
	SeveralDisks      = "SeveralDisks"
	DigestMismatch    = "DigestMismatch"
	ConversionFailed  = "ConversionFailed"
	ScratchRequired   = "ScratchRequired"
	TooLarge          = "TooLarge"
	NoSpace           = "NoSpace"
	TargetError       = "TargetError"
	InternalError     = "InternalError"
)

// Error is the refusal of an image.
type Error struct {
	reason  string
	message string
	cause   error
}

// New is a refusal with one of the reasons above. The message says what to do.
func New(reason, message string) *Error { return &Error{reason: reason, message: message} }

// By is a refusal that something else caused.
func By(reason, message string, cause error) *Error {
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
