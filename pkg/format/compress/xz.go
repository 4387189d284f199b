package compress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/format/confine"
	"github.com/gild-project/gild/pkg/format/refusal"
)

// Limits of the xz program. Its own limits keep the memory it fills below 160 MiB: with as many
// threads as that is enough for, else with one. Two threads want some 130 MiB for what `xz -T0`
// writes. The address space is larger because of its threads.
const (
	xzMemory       = 1 << 30
	xzWindow       = Window + Window/4
	xzThreadMemory = 160 << 20
	xzThreads      = 4
	// A decoder that makes no progress blocks on its output or ends; this is for one that hangs.
	xzTime = 7 * 24 * time.Hour
)

// xzDecoder decodes an xz file by the xz program, which takes two thirds of the library's
// processor time and uses two cores where the file has several blocks.
type xzDecoder struct {
	origin *origin
	out    *os.File
	// result is how the program ended. It is there once out has ended.
	result  chan error
	working sync.WaitGroup
}

func newXZ(ctx context.Context, o *origin, options Options) (decoder, error) {
	name := options.XZ
	if name == "" {
		name = "xz"
	}
	// Without input there is nothing to lose yet if the program is not there.
	err := confine.Run(ctx, confine.Tool{Name: name, Args: []string{"--version"}, Memory: xzMemory, Seconds: 10})
	var failure *confine.Failure
	if errors.As(err, &failure) && failure.Missing {
		return &xzLibrary{origin: o}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return startXZ(ctx, o, name)
}

func startXZ(ctx context.Context, o *origin, name string) (*xzDecoder, error) {
	stdin, in, err := pipe()
	if err != nil {
		return nil, err
	}
	out, stdout, err := pipe()
	if err != nil {
		stdin.Close()
		in.Close()
		return nil, err
	}
	d := &xzDecoder{origin: o, out: out, result: make(chan error, 1)}
	d.working.Go(func() {
		err := confine.Run(ctx, confine.Tool{
			Name: name,
			Args: []string{"--decompress", "--stdout", "--format=xz", fmt.Sprintf("--threads=%d", min(xzThreads, runtime.GOMAXPROCS(0))),
				fmt.Sprintf("--memlimit-decompress=%d", xzWindow), fmt.Sprintf("--memlimit-mt-decompress=%d", xzThreadMemory)},
			Memory: xzMemory, Seconds: int64(xzTime.Seconds()),
			Stdin: stdin, Stdout: stdout,
		})
		// The last ends of the pipes but ours: writing fails now, and reading ends.
		d.result <- err
		stdin.Close()
		stdout.Close()
	})
	d.working.Go(func() {
		defer in.Close()
		// An error of the source is remembered by origin, one of the pipe is the program's end.
		_, _ = io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{o}, make([]byte, readSize))
	})
	return d, nil
}

// pipe is a pipe with room for more than the usual 64 KiB, where the system lets us.
func pipe() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("starting xz: %w", err)
	}
	if raw, err := w.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, chunkSize) })
	}
	return r, w, nil
}

// stop waits for the program, which the end of the context has killed, and for the copying.
func (d *xzDecoder) stop() {
	d.out.Close()
	d.working.Wait()
}

// Read implements io.Reader.
func (d *xzDecoder) Read(p []byte) (int, error) {
	n, err := d.out.Read(p)
	if err == io.EOF { //nolint:errorlint // files return it bare
		err = d.origin.judge("xz", explainXZ(<-d.result))
	}
	return n, err
}

// explainXZ says what the end of the program means. It has no exit status of its own for any of it.
func explainXZ(err error) error {
	var failure *confine.Failure
	switch {
	case err == nil:
		return io.EOF
	case !errors.As(err, &failure):
		return refusal.By(refusal.InternalError, "running xz", err)
	case strings.Contains(failure.Error(), "Unexpected end of input"):
		return io.ErrUnexpectedEOF
	case strings.Contains(failure.Error(), "Memory usage limit reached"):
		return tooLarge(failure)
	case strings.Contains(failure.Error(), "Unsupported"):
		return unsupported(failure)
	case failure.Missing, failure.Killed, strings.Contains(failure.Error(), "Cannot allocate memory"):
		return refusal.By(refusal.InternalError, "running xz", failure)
	default:
		return failure
	}
}

func tooLarge(cause error) error {
	return refusal.By(refusal.UnsupportedFormat, fmt.Sprintf("the xz data needs more than %d MiB of memory: compress it with xz -9 or less", Window>>20), cause)
}

func unsupported(cause error) error {
	return refusal.By(refusal.UnsupportedFormat, "the xz data uses a filter or a checksum that is not supported: compress it with xz and no special options", cause)
}
