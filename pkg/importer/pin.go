package importer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Pin names one revision of a source. Fields that are empty or 0 are not checked.
type Pin struct {
	// ETag must be the served one; a strong one is also sent as If-Match.
	ETag string `json:"etag,omitempty"`
	// LastModified must be the served header, letter for letter.
	LastModified string `json:"lastModified,omitempty"`
	// Length in bytes, as served.
	Length int64 `json:"length,omitempty"`
	// Digest is ALG:HEX of the bytes as served.
	Digest string `json:"digest,omitempty"`
}

// Set reads the JSON of a flag value. The empty string pins nothing.
func (p *Pin) Set(text string) error {
	if text == "" {
		*p = Pin{}
		return nil
	}
	var read Pin
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	// An unknown field would be a condition that nobody checks.
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&read); err != nil {
		return fmt.Errorf("reading pin: %w", err)
	}
	if decoder.More() {
		return errors.New("reading pin: more than one JSON value")
	}
	*p = read
	return nil
}

// String writes the form that Set reads; empty when nothing is pinned.
func (p *Pin) String() string {
	if *p == (Pin{}) {
		return ""
	}
	// A struct of strings and a number always marshals.
	text, _ := json.Marshal(*p)
	return string(text)
}

// Type names the value in the help text.
func (p *Pin) Type() string { return "JSON" }

// Validate reports a field that can never match.
func (p *Pin) Validate() error {
	if p.Length < 0 {
		return errors.New("length must not be negative")
	}
	if p.Digest != "" {
		if _, err := ParseChecksum(p.Digest); err != nil {
			return fmt.Errorf("digest: %w", err)
		}
	}
	return nil
}
