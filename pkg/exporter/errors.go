package exporter

// Reasons of errors, which pkg/importer lists with their exit codes.
const (
	InvalidOptions = "InvalidOptions"
	InvalidSecret  = "InvalidSecret"
	NotFound       = "NotFound"
	SourceRefused  = "SourceRefused"
)

// Error is why a volume cannot be exported.
type Error struct {
	reason, message string
	err             error
}

// Error implements error.
func (e *Error) Error() string {
	if e.err == nil {
		return e.message
	}
	return e.message + ": " + e.err.Error()
}

// Unwrap returns the cause, nil when there is none.
func (e *Error) Unwrap() error { return e.err }

// Reason is the word for how a run ends with this error.
func (e *Error) Reason() string { return e.reason }

func fail(reason, message string) *Error { return &Error{reason: reason, message: message} }

func failBy(reason, message string, err error) *Error {
	return &Error{reason: reason, message: message, err: err}
}
