package registry

import (
	"errors"
	"fmt"
	"io"

	"github.com/gild-project/gild/pkg/source"
)

// The reasons of this package. Others come from pkg/source and pkg/format/refusal.
const (
	PlatformNotFound  = "PlatformNotFound"
	SignatureRejected = "SignatureRejected"

	invalidOptions = "InvalidOptions"
)

// Error is a failure to get an image. Its text holds no secret and no URL query.
type Error struct {
	reason  string
	message string
	cause   error
}

func fail(reason, format string, args ...any) *Error {
	return &Error{reason: reason, message: fmt.Sprintf(format, args...)}
}

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

// Reason is the word that the importer reports.
func (e *Error) Reason() string { return e.reason }

// reasonOf is the reason of an error of any of our packages, empty for another one's.
func reasonOf(err error) string {
	if e, ok := asReasoned(err); ok {
		return e.Reason()
	}
	return ""
}

// StartOver tells that the image can be opened again and read from its first byte.
func (e *Error) StartOver() bool { return e.reason == source.SourceUnstable }

// reasoned is what the errors of source and refusal offer too.
type reasoned interface {
	error
	Reason() string
}

func asReasoned(err error) (reasoned, bool) {
	var e reasoned
	return e, errors.As(err, &e)
}

// closeAfter closes c because of err.
func closeAfter(c io.Closer, err error) error {
	_ = c.Close()
	return err
}
