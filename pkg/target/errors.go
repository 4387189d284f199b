package target

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The reasons why a target cannot be written. They are the words that the importer reports.
const (
	TooLarge    = "TooLarge"
	NoSpace     = "NoSpace"
	TargetError = "TargetError"
)

// Error is a failure of a target.
type Error struct {
	reason  string
	message string
	cause   error
}

func fail(reason, message string) *Error { return &Error{reason: reason, message: message} }

func failBy(reason, message string, cause error) *Error {
	return &Error{reason: reason, message: message, cause: cause}
}

// ioError gives a failed system call its reason.
func ioError(message string, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return failBy(NoSpace, message+": the volume is full", err)
	case errors.Is(err, unix.EFBIG):
		return failBy(TooLarge, message+": neither the file system nor the limits of this process may forbid a file of this size", err)
	case errors.Is(err, unix.EBUSY):
		return failBy(TargetError, message+": somebody else uses it", err)
	}
	return failBy(TargetError, message, err)
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
