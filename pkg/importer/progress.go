package importer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Phase is the part of the work that a progress line speaks of.
type Phase string

// The phases of one run.
const (
	// Importing covers reading the source and writing the target.
	Importing Phase = "Importing"
	// Verifying covers the checks after the last byte and the sync.
	Verifying Phase = "Verifying"
)

// Progress is one line of standard output in json mode, about one a second.
type Progress struct {
	Phase Phase `json:"phase"`
	// TotalBytes is the length of the source; absent when the server does not say.
	TotalBytes *int64 `json:"totalBytes,omitempty"`
	// TransferredBytes is how far the source has been read; parts that are not needed are skipped.
	// It goes back when the source must be read again.
	TransferredBytes int64 `json:"transferredBytes"`
	// WrittenBytes counts the data written to the target.
	WrittenBytes int64 `json:"writtenBytes"`
	// ScratchBytes counts the bytes kept in the scratch directory.
	ScratchBytes int64 `json:"scratchBytes,omitempty"`
	// Passes counts how often the source was begun to be read; 2 for an image whose tables come
	// too late.
	Passes int64 `json:"passes,omitempty"`
	// BytesPerSecond is the rate at which bytes came over the last few seconds.
	BytesPerSecond int64 `json:"bytesPerSecond"`
	// Message is for people: what is going on, for example a pause before the next try.
	Message string `json:"message,omitempty"`
}

// ParseProgress reads one line of a pod's log. Nothing in it is trusted: other lines are an
// error, the message is cleaned and cut, numbers are kept in range.
func ParseProgress(line []byte) (Progress, error) {
	var p Progress
	if err := json.Unmarshal(line, &p); err != nil {
		return Progress{}, fmt.Errorf("reading progress: %w", err)
	}
	if p.Phase != Importing && p.Phase != Verifying {
		return Progress{}, errors.New("reading progress: unknown phase")
	}
	p.Message = clean(p.Message, maxMessage)
	for _, n := range []*int64{p.TotalBytes, &p.TransferredBytes, &p.WrittenBytes, &p.ScratchBytes, &p.Passes, &p.BytesPerSecond} {
		if n != nil {
			*n = max(*n, 0)
		}
	}
	return p, nil
}
