package importer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"sync"
)

// inOrder reads the image from its first byte to its last.
func (r *run) inOrder(ctx context.Context, i *inspected) error {
	if i.image.Flat {
		return r.flat(ctx, i)
	}
	if err := r.prepare(ctx, i.size, i.header.Granule); err != nil {
		return err
	}
	if err := r.passes(ctx, i, r.target); err != nil {
		return err
	}
	return r.commit(ctx, i.size)
}

// passes reads the image into sink, a second time if its tables come too late.
func (r *run) passes(ctx context.Context, i *inspected, sink Sink) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g := &guardedSink{Sink: sink, fail: cancel}
	pass, err := r.parts.Formats.NewPass(i.image.Format, i.imageHead, r.maxDisk(), g)
	if err != nil {
		return err
	}
	again, first, err := r.read(ctx, i, pass)
	if err == nil && again {
		err = r.readAgain(ctx, i, pass, first)
	}
	pass.Close()
	// What the target said is the reason, whatever else broke then.
	return cmp.Or(g.failed(), err)
}

// guardedSink tells at once when a write fails. A pass would tell with its next bytes, and the
// source may be silent for long.
type guardedSink struct {
	Sink
	fail context.CancelCauseFunc
	mu   sync.Mutex
	err  error
}

// WriteAt implements Sink.
func (g *guardedSink) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	n, err := g.Sink.WriteAt(ctx, p, off)
	if err != nil && ctx.Err() == nil {
		g.mu.Lock()
		g.err = cmp.Or(g.err, err)
		g.mu.Unlock()
		g.fail(err)
	}
	return n, err
}

func (g *guardedSink) failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// read feeds the whole image to a pass once.
func (r *run) read(ctx context.Context, i *inspected, pass Pass) (again bool, sums hashes, err error) {
	s, err := r.takeStream(ctx, i)
	if err != nil {
		return false, nil, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, s.flow.stop)
	defer stop()
	buffer, limit := make([]byte, chunkSize), r.imageLimit(i)
	for length := int64(0); ; {
		n, ended, err := fill(s, buffer)
		if err != nil {
			return false, nil, err
		}
		if length += int64(n); length > limit {
			return false, nil, &Error{Reason: TooLarge, Err: fmt.Errorf("%s does not say the length of its image, which goes on after %s for a disk of %s: serve it with a length, not compressed", i.source.Name(), Human(limit), Human(i.size))}
		}
		if err := pass.Write(ctx, buffer[:n]); err != nil {
			return false, nil, err
		}
		r.report.wrote(r.target.Written())
		if ended {
			break
		}
	}
	if err := s.drain(); err != nil {
		return false, nil, err
	}
	if again, err = pass.End(ctx); err != nil {
		return false, nil, err
	}
	r.report.wrote(r.target.Written())
	return again, s.hashes, r.verify(i, s.flow.length, s.hashes)
}

// imageLimit bounds an endless body: twice the disk is more than any tool writes for it.
func (r *run) imageLimit(i *inspected) int64 {
	if i.source.Size() >= 0 && i.compression == "" {
		return math.MaxInt64
	}
	disk := i.size
	if disk < 0 {
		disk = r.target.Capacity()
	}
	return 2*min(disk, math.MaxInt64/4) + 1<<30
}

// readAgain reads the image a second time. Where the source cannot promise the same
// bytes, their digest does.
func (r *run) readAgain(ctx context.Context, i *inspected, pass Pass, first hashes) error {
	r.report.notice("data comes before the tables that say where it belongs: reading the image a second time")
	if err := i.source.Rewind(ctx); err != nil {
		return err
	}
	again, second, err := r.read(ctx, i, pass)
	if err != nil {
		return err
	}
	if again || !first.equal(second) {
		return &changed{fmt.Errorf("%s changed between its two readings", i.source.Name())}
	}
	return nil
}

// changed is a source that may be whole when it is opened anew.
type changed struct{ error }

// Reason implements reasoned.
func (*changed) Reason() string { return string(SourceUnstable) }

// StartOver tells to open the source again.
func (*changed) StartOver() bool { return true }

// takeStream returns the stream that inspect opened, or a new one.
func (r *run) takeStream(ctx context.Context, i *inspected) (*stream, error) {
	if s := i.stream; s != nil {
		i.stream = nil
		return s, nil
	}
	head := i.head
	i.head = nil
	return r.openStream(ctx, i, head)
}

// prepare empties the target. A device that is empty already is left alone: emptying it may
// take so long that the server hangs up, and then this must not begin again. No checkpoint is true
// any more, whatever image it is of: it goes first.
func (r *run) prepare(ctx context.Context, size, granule int64) error {
	r.voidCheckpoint()
	r.touched = true
	if r.prepared == granule && r.target.Block() && r.target.Written() == 0 {
		return nil
	}
	r.report.phase(Importing, "preparing the target")
	r.prepared = 0
	if err := r.target.Prepare(ctx, size, granule); err != nil {
		return err
	}
	r.prepared = granule
	r.report.phase(Importing, "")
	return nil
}

// commit stores all and makes the disk visible.
func (r *run) commit(ctx context.Context, size int64) error {
	r.report.phase(Verifying, "storing the last bytes")
	return r.target.Commit(ctx, size)
}
