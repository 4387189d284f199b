package importer

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// defaultCheckpointEvery and defaultCheckpointBytes are what a killed run loses at most. A
	// checkpoint costs a sync.
	defaultCheckpointEvery = 10 * time.Second
	defaultCheckpointBytes = 256 << 20
	// maxCheckpoint bounds the file, in bytes.
	maxCheckpoint = 64 << 10
)

// checkpointer makes the checkpoints of one import.
type checkpointer struct {
	run     *run
	path    string
	self    Checkpoint
	slice   int
	hashes  hashes
	witness *witness

	last  time.Time
	since int64
}

// newCheckpointer makes none without a strong validator: then nothing tells a new revision
// from the one that was begun.
func (r *run) newCheckpointer(i *inspected, image Image) *checkpointer {
	c := &checkpointer{run: r, hashes: newHashes(r.expected), witness: newWitness(r.target), last: r.parts.Clock.Now()}
	if image.Slices() > 1 {
		c.hashes = nil
	}
	etag, _ := i.source.Validators()
	if !strong(etag) || len(etag) > maxHeaderField {
		return c
	}
	c.path = r.options.Checkpoint
	c.self = Checkpoint{
		Version: checkpointVersion, ETag: etag, Length: i.source.Size(), Format: i.image.Format,
		VirtualSize: i.size, Tables: image.Digest(), Slices: image.Slices(), Runtime: runtime.Version(),
	}
	for _, expected := range r.expected {
		c.self.Checksums = append(c.self.Checksums, expected.String())
	}
	return c
}

// load returns the stored checkpoint if it is of this import, and an empty one if there is none.
func (c *checkpointer) load() (Checkpoint, error) {
	if c.path == "" {
		return Checkpoint{}, nil
	}
	text, err := readCheckpoint(c.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return Checkpoint{}, nil
	}
	var stored Checkpoint
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("reading checkpoint: %w", err)
	}
	if err := stored.sameImport(c.self); err != nil {
		return Checkpoint{}, err
	}
	if len(stored.Hashes) != len(c.hashes) {
		return Checkpoint{}, errors.New("the checkpoint has no usable state of the checksum")
	}
	return stored, stored.inRange()
}

// readCheckpoint reads a file of ours: nothing that never ends, and nothing large.
func readCheckpoint(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxCheckpoint {
		return nil, errors.New("it is no file of a checkpoint")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxCheckpoint))
}

// restore goes on from a checkpoint, if the target looks as it did then. After an error the
// checkpointer is as new.
func (c *checkpointer) restore(ctx context.Context, stored Checkpoint, target io.ReaderAt) error {
	w := newWitness(c.witness.Sink)
	if err := w.readBack(target, stored.Witness); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if found, err := seal(stored, w.all()); err != nil || found != stored.Seal {
		return errors.New("the checkpoint is damaged, or the target holds something else than when it was made")
	}
	restored := newHashes(c.run.expected)
	for n, state := range stored.Hashes {
		u, ok := restored[n].Hash.(encoding.BinaryUnmarshaler)
		if !ok || u.UnmarshalBinary(state) != nil {
			return errors.New("the checkpoint has no usable state of the checksum")
		}
	}
	if len(stored.Hashes) > 0 {
		c.hashes = restored
	}
	c.witness = w
	return nil
}

// settled follows each piece that is on the target with all before it, and makes a checkpoint
// when it is time.
func (c *checkpointer) settled(ctx context.Context, p Piece) error {
	c.since += p.Len
	now := c.run.parts.Clock.Now()
	every, most := c.run.parts.checkpointPace()
	if c.path == "" || c.since < most && now.Sub(c.last) < every {
		return nil
	}
	target := c.run.target
	// What is remembered now is stored by the sync. Without any of it, and where a later run would keep
	// old bytes because it does not write them, a checkpoint is worth nothing.
	samples := c.witness.all()
	if len(samples) == 0 || !target.Zeroed() {
		return nil
	}
	if err := target.Sync(ctx); err != nil {
		return err
	}
	c.last, c.since = now, 0
	text, err := c.make(p.Off+p.Len, samples)
	if err != nil {
		return fmt.Errorf("storing checkpoint: %w", err)
	}
	c.store(text)
	return nil
}

// make writes the checkpoint at offset.
func (c *checkpointer) make(offset int64, samples []placed) ([]byte, error) {
	checkpoint := c.self
	checkpoint.Slice, checkpoint.Offset = c.slice, offset
	for _, h := range c.hashes {
		m, ok := h.Hash.(encoding.BinaryMarshaler)
		if !ok {
			return nil, fmt.Errorf("%s has no state that can be stored", h.algorithm)
		}
		state, err := m.MarshalBinary()
		if err != nil {
			return nil, err
		}
		checkpoint.Hashes = append(checkpoint.Hashes, state)
	}
	for _, s := range samples {
		checkpoint.Witness = append(checkpoint.Witness, s.off)
	}
	var err error
	if checkpoint.Seal, err = seal(checkpoint, samples); err != nil {
		return nil, err
	}
	return json.Marshal(checkpoint)
}

// store writes the checkpoint into the log and, where that is possible, into its file. In a pod the
// file is read-only, and the log is what lasts.
func (c *checkpointer) store(text []byte) {
	logged := c.run.report.checkpoint(text)
	partial := c.path + checkpointPartial
	err := os.WriteFile(partial, text, 0o600)
	if err == nil {
		err = os.Rename(partial, c.path)
	}
	if err == nil || logged {
		c.run.stored = true
	}
	if err != nil && (!logged || !unwritable(err)) {
		c.run.report.notice("storing checkpoint: " + err.Error())
	}
}

// checkpointPartial ends the name of the file while it is written.
const checkpointPartial = ".partial"

// voidCheckpoint drops the stored checkpoint before the target is emptied: the run after this one
// would believe it.
func (r *run) voidCheckpoint() {
	r.stored = false
	if r.options.Checkpoint != "" {
		r.report.checkpoint([]byte("null"))
		r.dropCheckpoint()
	}
}

// dropCheckpoint removes the file.
func (r *run) dropCheckpoint() {
	if r.options.Checkpoint == "" {
		return
	}
	for _, path := range []string{r.options.Checkpoint + checkpointPartial, r.options.Checkpoint} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) && !unwritable(err) {
			r.report.complain(fmt.Errorf("removing checkpoint: %w", err))
		}
	}
}

func unwritable(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// strong tells whether an ETag promises the same bytes (RFC 9110, 8.8.1).
func strong(etag string) bool { return etag != "" && !strings.HasPrefix(etag, "W/") }
