package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of the termination message. The kubelet cuts it at 4 KiB, which would break the JSON.
const (
	maxMessage     = 1024
	maxResult      = 4096
	maxHeaderField = 256
)

// Result is how one run ended: the termination message and the last line in json mode.
type Result struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
	// SourceFormat is the format found, empty when the run ended before.
	SourceFormat string `json:"sourceFormat,omitempty"`
	// Content is what a container image held: containerDisk, artifact, rootfs or files.
	Content string `json:"content,omitempty"`
	// VirtualSize is the size of the disk on the volume, in bytes.
	VirtualSize int64 `json:"virtualSize,omitempty"`
	// TransferredBytes counts the bytes that came from the source, those of repeated parts again.
	TransferredBytes int64 `json:"transferredBytes"`
	// WrittenBytes counts the bytes of data written to the target. Holes do not count.
	WrittenBytes int64 `json:"writtenBytes"`
	// ScratchBytes counts the bytes kept in the scratch directory.
	ScratchBytes int64 `json:"scratchBytes"`
	// Passes counts how often the source was read in the last try: 1, or 2 for an image whose tables
	// come too late or whose checksum is of bytes that the image does not need.
	Passes int64 `json:"passes,omitempty"`
	// BytesPerSecond is TransferredBytes over Seconds.
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// Digest is ALG:HEX of the bytes as served, only when it or a checksum was asked for: without one
	// the parts of an image that hold no data are not read. Of a container image it is the digest of
	// the manifest, which names every byte.
	Digest string `json:"digest,omitempty"`
	// ETag and LastModified are the headers as served.
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
	// Seconds is how long the run took.
	Seconds float64 `json:"seconds"`
	// RetryAfterSeconds is how long the source asks to wait before the next attempt; only with exit code 1.
	RetryAfterSeconds int64 `json:"retryAfterSeconds,omitempty"`
}

// Marshal writes the result as one line of JSON of at most 4 KiB.
func (r Result) Marshal() []byte {
	r.Message = clean(r.Message, maxMessage)
	r.ETag = clean(r.ETag, maxHeaderField)
	r.LastModified = clean(r.LastModified, maxHeaderField)
	line, err := json.Marshal(r)
	// JSON may write one character as six; only a hostile message comes near the limit.
	for err == nil && len(line) > maxResult && r.Message != "" {
		r.Message = clean(r.Message, len(r.Message)/2)
		line, err = json.Marshal(r)
	}
	if err != nil {
		// Only a NaN in Seconds could do that; the reason must get out in any case.
		return []byte(`{"reason":"` + string(InternalError) + `","message":"result cannot be written as JSON"}`)
	}
	return line
}

// ParseResult reads a termination message. It comes from a pod, so nothing in it is trusted:
// an unknown reason is an error, texts are cleaned and cut, negative numbers become 0.
func ParseResult(line []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(line, &r); err != nil {
		return Result{}, fmt.Errorf("reading result: %w", err)
	}
	if !r.Reason.Known() {
		return Result{}, errors.New("reading result: unknown reason")
	}
	r.Message = clean(r.Message, maxMessage)
	for _, text := range []*string{&r.SourceFormat, &r.Content, &r.Digest, &r.ETag, &r.LastModified} {
		*text = clean(*text, maxHeaderField)
	}
	for _, n := range []*int64{&r.VirtualSize, &r.TransferredBytes, &r.WrittenBytes, &r.ScratchBytes, &r.Passes, &r.BytesPerSecond, &r.RetryAfterSeconds} {
		*n = max(*n, 0)
	}
	r.Seconds = max(r.Seconds, 0)
	return r, nil
}

// writeTermination writes the result where the kubelet reads it.
func writeTermination(path string, r Result) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, r.Marshal(), 0o644); err != nil {
		return fmt.Errorf("writing termination log: %w", err)
	}
	return nil
}

// clean makes foreign text safe to show: printable, valid UTF-8, at most limit bytes.
func clean(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	const ellipsis = "…"
	cut := max(limit-len(ellipsis), 0)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + ellipsis
}
