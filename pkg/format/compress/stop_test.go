package compress_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/compress"
)

// endless repeats a member or stream for ever and counts what was read of it.
type endless struct {
	packed []byte
	at     int
	read   atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.packed[e.at:])
	e.at = (e.at + n) % len(e.packed)
	e.read.Add(int64(n))
	return n, nil
}

// Zeros without end: what a reader does not ask for costs neither memory nor time, and Close ends it.
func TestBomb(t *testing.T) {
	zeros := make([]byte, 5<<20)
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			source := &endless{packed: r.pack(t, zeros)}
			// All that may be decoded ahead, and what of the source that and its buffers take.
			ratio := len(zeros) / len(source.packed)
			before := heap()
			in, err := compress.NewReader(t.Context(), r.format, source, r.options)
			require.NoError(t, err)
			total := 12 << 20
			_, err = io.CopyN(io.Discard, in, int64(total))
			require.NoError(t, err)
			require.Less(t, heap()-before, int64(64<<20))
			require.NoError(t, in.Close())
			read := source.read.Load()
			require.Less(t, read, int64((total+8<<20)/ratio+len(source.packed)+2<<20))
			_, err = in.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrClosed)
			require.NoError(t, in.Close())
			require.Equal(t, read, source.read.Load(), "the source was read after Close")
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestCloseAtOnce(t *testing.T) {
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			in, err := compress.NewReader(t.Context(), r.format, &endless{packed: r.pack(t, disk(100_000))}, r.options)
			require.NoError(t, err)
			require.NoError(t, in.Close())
		})
	}
}

// A source that is stuck ends with its own context; until then Close waits, and Read does not.
func TestStuckSource(t *testing.T) {
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			packed := r.pack(t, disk(300_000))
			source, stuck := io.Pipe()
			arrived := make(chan struct{})
			go func() {
				_, _ = stuck.Write(packed[:len(packed)/2])
				close(arrived)
			}()
			ctx, cancel := context.WithCancelCause(t.Context())
			in, err := compress.NewReader(ctx, r.format, source, r.options)
			require.NoError(t, err)
			<-arrived
			stopped := errors.New("stopped")
			cancel(stopped)
			_, err = io.Copy(io.Discard, in)
			require.Equal(t, stopped, err)
			require.NoError(t, stuck.CloseWithError(stopped))
			require.NoError(t, in.Close())
		})
	}
}

func TestContextEndedBefore(t *testing.T) {
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			stopped := errors.New("stopped")
			cancel(stopped)
			in, err := compress.NewReader(ctx, r.format, bytes.NewReader(r.pack(t, disk(1000))), r.options)
			if err == nil {
				_, err = in.Read(make([]byte, 10))
				require.NoError(t, in.Close())
			}
			require.ErrorIs(t, err, stopped)
		})
	}
}

// A data error stays however often it is asked for, and after it nothing is left to stop.
func TestErrorStays(t *testing.T) {
	for name, r := range readers() {
		t.Run(name, func(t *testing.T) {
			packed := r.pack(t, disk(100_000))
			in, err := compress.NewReader(t.Context(), r.format, bytes.NewReader(packed[:len(packed)-1]), r.options)
			require.NoError(t, err)
			_, first := io.ReadAll(in)
			require.Error(t, first)
			for range 3 {
				n, err := in.Read(make([]byte, 10))
				require.Zero(t, n)
				require.Equal(t, first, err)
			}
			require.NoError(t, in.Close())
		})
	}
}
