package importer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
)

const (
	// sampleSize is the smallest unit of writes, in bytes, and maxSamples how many are remembered.
	sampleSize = 512
	maxSamples = 32
)

// witness is a Sink that remembers a few places with data, spread over all that was written. A
// later run reads them back: the target may have been emptied, or hold another disk since the
// checkpoint was made, and nothing else would tell.
type witness struct {
	Sink

	mu      sync.Mutex
	samples []placed
	// Every stride-th write is looked at.
	writes, stride int
}

// placed are bytes that are on the target.
type placed struct {
	off  int64
	data [sampleSize]byte
}

func newWitness(sink Sink) *witness { return &witness{Sink: sink, stride: 1} }

// WriteAt implements Sink.
func (w *witness) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := w.Sink.WriteAt(ctx, p, off)
	if err == nil && w.due() {
		w.remember(p, off)
	}
	return n, err
}

func (w *witness) due() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes++
	return w.writes%w.stride == 0
}

// remember takes the first sector of p with data, if there is one.
func (w *witness) remember(p []byte, off int64) {
	var s placed
	for at := 0; at+sampleSize <= len(p); at += sampleSize {
		if sector := p[at : at+sampleSize]; !bytes.Equal(sector, s.data[:]) {
			s.off = off + int64(at)
			copy(s.data[:], sector)
			w.add(s)
			return
		}
	}
}

// add keeps every second sample when there are too many, always the first one.
func (w *witness) add(s placed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.samples) == maxSamples {
		for n := range maxSamples / 2 {
			w.samples[n] = w.samples[2*n]
		}
		w.samples = w.samples[:maxSamples/2]
		w.stride *= 2
	}
	w.samples = append(w.samples, s)
}

// all returns what is remembered of what was written before.
func (w *witness) all() []placed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.samples)
}

// readBack reads from target what is at the offsets, and remembers it.
func (w *witness) readBack(target io.ReaderAt, offsets []int64) error {
	// Whole pages in page-aligned memory, as direct I/O wants it: the runtime gives large blocks whole pages.
	page := make([]byte, 64<<10)[:pageSize]
	for _, off := range offsets {
		s := placed{off: off}
		start := off / pageSize * pageSize
		n, err := target.ReadAt(page, start)
		if n < int(off-start)+sampleSize {
			return fmt.Errorf("reading the target back at byte %d: %w", off, err)
		}
		copy(s.data[:], page[off-start:])
		w.add(s)
	}
	return nil
}

// seal is the digest of a checkpoint without its seal, and of samples.
func seal(c Checkpoint, samples []placed) (string, error) {
	c.Seal = ""
	text, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	// A hash never returns an error.
	_, _ = h.Write(text)
	for _, s := range samples {
		_, _ = h.Write(s.data[:])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
