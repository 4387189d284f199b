package importer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
)

// Reading and hashing overlap with writing: while one buffer is written the next ones fill.
// 1 MiB keeps system calls rare; four of them are 4 MiB of memory.
const (
	chunkSize  = 1 << 20
	chunkCount = 4
)

// chunk is a piece of the image in the order of its bytes. Only the last one may be short.
type chunk struct {
	bytes []byte
	err   error
}

// transferred is what is known after the last byte.
type transferred struct {
	length int64
	// tail is the last bytes, as many as Formats wants.
	tail []byte
}

// transfer reads the whole source, verifies its checksums and hands the bytes to write, which
// may be nil. It stops with the error of tooLong when more than limit bytes come.
func (r *run) transfer(ctx context.Context, i *inspected, limit int64, tooLong func(length int64) error, write func(p []byte, off int64) error) (transferred, error) {
	ctx, cancel := context.WithCancel(ctx)
	hashes := newHashes(r.expected)
	full, free := make(chan chunk), make(chan []byte, chunkCount)
	for range chunkCount {
		free <- make([]byte, chunkSize)
	}
	var reader sync.WaitGroup
	reader.Go(func() { produce(ctx, i, hashes, full, free) })
	defer reader.Wait()
	// The target may fail while the source is silent.
	defer i.hangUp()
	defer cancel()

	r.report.begin()
	var t transferred
	for {
		var c chunk
		select {
		case c = <-full:
		case <-ctx.Done():
			// The reader may have left without a word.
			return t, context.Cause(ctx)
		}
		if err := r.consume(&t, c.bytes, limit, tooLong, write); err != nil {
			return t, err
		}
		if errors.Is(c.err, io.EOF) {
			return t, r.verify(i, t, hashes)
		}
		if c.err != nil {
			return t, c.err
		}
		free <- c.bytes[:chunkSize]
	}
}

// produce reads chunks until the source ends or ctx does. The head was read before.
func produce(ctx context.Context, i *inspected, hashes hashes, full chan<- chunk, free <-chan []byte) {
	head := i.head
	for {
		var buffer []byte
		select {
		case buffer = <-free:
		case <-ctx.Done():
			return
		}
		n := copy(buffer, head)
		head = head[n:]
		m, err := readFull(ctx, i.source, buffer[n:])
		hashes.write(buffer[:n+m])
		select {
		case full <- chunk{buffer[:n+m], err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (r *run) consume(t *transferred, p []byte, limit int64, tooLong func(int64) error, write func([]byte, int64) error) error {
	if t.length+int64(len(p)) > limit {
		return tooLong(t.length + int64(len(p)))
	}
	if write != nil && len(p) > 0 {
		if err := write(p, t.length); err != nil {
			return err
		}
	}
	t.length += int64(len(p))
	t.tail = append(t.tail, p[max(len(p)-int(r.parts.Formats.TailSize()), 0):]...)
	t.tail = t.tail[max(len(t.tail)-int(r.parts.Formats.TailSize()), 0):]
	r.report.moved(int64(len(p)))
	return nil
}

// verify compares the checksums of the bytes as served.
func (r *run) verify(i *inspected, t transferred, hashes hashes) error {
	r.report.phase(Verifying, "")
	if pinned := r.options.Pin.Length; pinned != 0 && pinned != t.length {
		return &Error{Reason: SourceChanged, Err: fmt.Errorf("%s has %d bytes, pinned is %d", i.source.Name(), t.length, pinned)}
	}
	for n, want := range r.expected {
		if got := hashes[n].sum(); got != want.String() {
			return &Error{Reason: ChecksumMismatch, Err: fmt.Errorf("%s has the checksum %s, expected is %s: the image changed, or the checksum is of another one", i.source.Name(), got, want)}
		}
	}
	r.result.Digest = hashes[0].sum()
	return nil
}

// digest is one running hash with its name.
type digest struct {
	hash.Hash
	algorithm string
}

func (d digest) sum() string { return d.algorithm + ":" + hex.EncodeToString(d.Sum(nil)) }

type hashes []digest

// newHashes makes one hash for each expected checksum, or a sha256 for the record.
func newHashes(expected []Checksum) hashes {
	if len(expected) == 0 {
		expected = []Checksum{{Algorithm: "sha256"}}
	}
	var all hashes
	for _, c := range expected {
		all = append(all, digest{c.New(), c.Algorithm})
	}
	return all
}

func (h hashes) write(p []byte) {
	for _, d := range h {
		// A hash never returns an error.
		_, _ = d.Write(p)
	}
}
