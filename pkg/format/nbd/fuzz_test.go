package nbd_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/nbd"
)

// FuzzServe sends anything: the server answers or hangs up, and ends.
func FuzzServe(f *testing.F) {
	hello := "\x00\x00\x00\x03"
	enter := hello + "IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00"
	read := "\x25\x60\x95\x13\x00\x00\x00\x00cookie!!\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x10\x00"
	f.Add([]byte(hello + "IHAVEOPT\x00\x00\x00\x03\x00\x00\x00\x00IHAVEOPT\x00\x00\x00\x02\x00\x00\x00\x00"))
	f.Add([]byte(enter + read + read + "\x25\x60\x95\x13\x00\x00\x00\x02cookie!!\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x10\x00"))
	f.Add([]byte(enter + "\x25\x60\x95\x13\x00\x00\x00\x01cookie!!\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x04abcd" + read))
	f.Add([]byte(hello + "IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x00" + read))
	broken := errors.New("broken")
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- nbd.Serve(t.Context(), theirs, nbd.Export{Size: 3 << 20, ReadAt: func(_ context.Context, p []byte, off int64) (int, error) {
				if off == 1<<20 {
					return 0, broken
				}
				return len(p), nil
			}})
		}()
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			_, _ = io.Copy(io.Discard, ours)
		}()
		_, _ = ours.Write(sent)
		require.NoError(t, ours.Close())
		<-drained
		if err := <-ended; err != nil && !errors.Is(err, broken) {
			require.ErrorContains(t, err, "serving image: ")
		}
	})
}
