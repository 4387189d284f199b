package compress

import (
	"errors"
	"io"
	"sync"

	"github.com/gild-project/gild/pkg/format/refusal"
)

// origin is the source of a decoder. It remembers how the source ended, because decoders hide
// it: they report a broken connection as broken data.
type origin struct {
	r io.Reader

	mu sync.Mutex
	// taken is how many bytes there were, err how the source ended.
	taken int64
	err   error
}

// Read reads the source. It does not touch the source again after an error.
func (o *origin) Read(p []byte) (int, error) {
	if _, err := o.end(); err != nil {
		return 0, err
	}
	n, err := o.r.Read(p)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken += int64(n)
	o.err = err
	return n, err
}

func (o *origin) end() (taken int64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.taken, o.err
}

// judge says what the end of decoding means: err is io.EOF at a proper end of the format, or
// what is wrong according to the decoder.
func (o *origin) judge(format string, err error) error {
	// In fewer bytes no format can be told.
	const shortest = 6
	taken, end := o.end()
	atEnd := end == io.EOF //nolint:errorlint // an error that wraps it is no end
	var refused *refusal.Error
	switch {
	case end != nil && !atEnd:
		return end
	case err == io.EOF && taken > 0: //nolint:errorlint // decoders return it bare
		return io.EOF
	case errors.As(err, &refused):
		return err
	case atEnd && (errors.Is(err, io.ErrUnexpectedEOF) || taken < shortest):
		return truncated(format, err)
	default:
		return corrupt(format, err)
	}
}

func truncated(format string, cause error) error {
	return refusal.By(refusal.TruncatedImage, "the "+format+" data ends too early: compare the file's size with the publisher's and upload it again", cause)
}

func corrupt(format string, cause error) error {
	return refusal.By(refusal.CorruptImage, "the "+format+" data is damaged: compare the file's checksum with the publisher's and upload it again", cause)
}

func trailing(format string) error {
	return refusal.New(refusal.CorruptImage, "something follows the "+format+" data that is none: compare the file's checksum with the publisher's and upload it again")
}
