package source

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// tailTimeout bounds the try to read the last bytes first, which nobody depends on.
const tailTimeout = 5 * time.Second

// Tail implements Image.
func (i *httpImage) Tail(ctx context.Context, n int64) ([]byte, error) {
	if i.size < n || !i.Ranged() {
		return nil, errors.New("the source cannot send its last bytes first")
	}
	tail := make([]byte, n)
	off := i.size - n
	if off < int64(len(i.head)) {
		// Here the answer is short enough to be worth every try.
		_, err := i.ReadAt(ctx, tail, off)
		return tail, err
	}
	// A server that serves one connection at a time answers the second one never.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := i.options.AfterFunc(tailTimeout, cancel)
	defer timer.Stop()
	o := i.options
	o.StallTimeout = tailTimeout
	s, err := i.ask(ctx, i.part(off, i.size-1), o)
	if err != nil {
		return nil, err
	}
	defer s.close()
	for done := 0; done < len(tail); {
		n, err := s.read(tail[done:])
		done += n
		if err != nil && done < len(tail) {
			return nil, fmt.Errorf("reading the end of the source: %w", err)
		}
	}
	return tail, nil
}
