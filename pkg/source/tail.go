package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// tailTimeout bounds the try to read the last bytes first, which nobody depends on.
const tailTimeout = 5 * time.Second

// Tail implements Image. It needs a strong ETag: the bytes must be of the opened revision.
func (i *httpImage) Tail(ctx context.Context, n int64) ([]byte, error) {
	if i.size < n || !i.ranges || !strong(i.revision.ETag) {
		return nil, errors.New("the source cannot send its last bytes first")
	}
	// A server that serves one connection at a time answers the second one never.
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	p := part{first: i.size - n, last: i.size - 1, etag: i.revision.ETag}
	s, r, err := openStream(ctx, i.client, p, tailTimeout)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if _, err := checkPart(i.client.start.url, p, r, i.size); err != nil {
		return nil, err
	}
	tail := make([]byte, n)
	if _, err := io.ReadFull(s.body(), tail); err != nil {
		return nil, fmt.Errorf("reading the end of the source: %w", err)
	}
	return tail, nil
}
