package importer

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	// checkpointVersion is raised when the order of pieces or the meaning of a field changes.
	checkpointVersion = 1
	// A checkpoint costs a sync. A killed run loses at most this much time or this many bytes.
	checkpointEvery = 10 * time.Second
	checkpointBytes = 256 << 20
)

// Checkpoint says how far an import came that another run can continue. It is valid for one
// revision of one image on one target, and all of it is compared before it is believed.
type Checkpoint struct {
	Version int `json:"version"`
	// ETag is the strong validator of the source, and Length its bytes.
	ETag   string `json:"etag"`
	Length int64  `json:"length"`
	// Format is of the source, VirtualSize of the disk on the target.
	Format      string `json:"format"`
	VirtualSize int64  `json:"virtualSize"`
	// Tables is the digest of the image's tables.
	Tables string `json:"tables,omitempty"`
	// All pieces of the source before Offset, and those of earlier slices, are stored on the target.
	Slice  int   `json:"slice,omitempty"`
	Offset int64 `json:"offset"`
	// Checksums are the expected ones, and Hashes the state of each at Offset as Runtime wrote it.
	Checksums []string `json:"checksums,omitempty"`
	Hashes    [][]byte `json:"hashes,omitempty"`
	Runtime   string   `json:"runtime,omitempty"`
}

// sameImport tells whether two checkpoints are of the same import.
func (c Checkpoint) sameImport(other Checkpoint) error {
	for _, field := range []struct {
		name          string
		stored, found any
	}{
		{"version", c.Version, other.Version},
		{"ETag", c.ETag, other.ETag},
		{"length", c.Length, other.Length},
		{"format", c.Format, other.Format},
		{"size of the disk", c.VirtualSize, other.VirtualSize},
		{"tables", c.Tables, other.Tables},
		{"checksum", strings.Join(c.Checksums, " "), strings.Join(other.Checksums, " ")},
		{"version of Go", c.Runtime, other.Runtime},
	} {
		if field.stored != field.found {
			return fmt.Errorf("the checkpoint is of another import: its %s is %v and not %v", field.name, field.stored, field.found)
		}
	}
	return nil
}

// checkpointer makes the checkpoints of one import.
type checkpointer struct {
	run    *run
	path   string
	self   Checkpoint
	slice  int
	hashes hashes

	last  time.Time
	since int64
	// stored tells that a checkpoint of what is on the target is there.
	stored bool
}

// newCheckpointer makes none without a strong validator: then nothing tells a new revision
// from the one that was begun.
func (r *run) newCheckpointer(i *inspected, image Image) *checkpointer {
	c := &checkpointer{run: r, hashes: newHashes(r.expected), last: r.parts.Clock.Now()}
	etag, _ := i.source.Validators()
	if image.Slices() > 1 {
		c.hashes = nil
	}
	if !strong(etag) {
		return c
	}
	c.path = r.options.Checkpoint
	c.self = Checkpoint{
		Version: checkpointVersion, ETag: etag, Length: i.source.Size(), Format: i.image.Format,
		VirtualSize: i.size, Tables: image.Digest(), Runtime: runtime.Version(),
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
	text, err := os.ReadFile(c.path)
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
	if len(stored.Hashes) != len(c.hashes) || stored.Offset < 0 || stored.Slice < 0 {
		return Checkpoint{}, errors.New("the checkpoint contradicts itself")
	}
	for n, state := range stored.Hashes {
		u, ok := c.hashes[n].Hash.(encoding.BinaryUnmarshaler)
		if !ok || u.UnmarshalBinary(state) != nil {
			return Checkpoint{}, errors.New("the checkpoint has no usable state of the checksum")
		}
	}
	return stored, nil
}

// restart forgets what load put into the hashes, and the stored checkpoint.
func (c *checkpointer) restart() {
	for _, h := range c.hashes {
		h.Reset()
	}
	c.void()
}

// void drops the stored checkpoint before the target is emptied: the run after this one would
// believe it.
func (c *checkpointer) void() {
	if c.path == "" {
		return
	}
	c.run.report.checkpoint([]byte("null"))
	c.drop()
}

// settled follows each piece that is on the target with all before it, and makes a checkpoint
// when it is time.
func (c *checkpointer) settled(ctx context.Context, p Piece) error {
	c.since += p.Len
	now := c.run.parts.Clock.Now()
	if c.path == "" || c.since < checkpointBytes && now.Sub(c.last) < checkpointEvery {
		return nil
	}
	target := c.run.target
	if !target.Zeroed() {
		// What a later run does not write would keep old bytes.
		return nil
	}
	if err := target.Sync(ctx); err != nil {
		return err
	}
	c.last, c.since = now, 0
	checkpoint := c.self
	checkpoint.Slice, checkpoint.Offset = c.slice, p.Off+p.Len
	for _, h := range c.hashes {
		m, ok := h.Hash.(encoding.BinaryMarshaler)
		if !ok {
			return nil
		}
		state, err := m.MarshalBinary()
		if err != nil {
			return fmt.Errorf("storing checkpoint: %w", err)
		}
		checkpoint.Hashes = append(checkpoint.Hashes, state)
	}
	c.stored = true
	return c.store(checkpoint)
}

// store writes the checkpoint into the log and, where that is possible, into its file. In a pod the
// file is read-only, and the log is what lasts.
func (c *checkpointer) store(checkpoint Checkpoint) error {
	text, err := json.Marshal(checkpoint)
	if err != nil {
		return fmt.Errorf("storing checkpoint: %w", err)
	}
	c.run.report.checkpoint(text)
	partial := c.path + ".partial"
	err = os.WriteFile(partial, text, 0o600)
	if err == nil {
		err = os.Rename(partial, c.path)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) && !readOnly(err) {
		c.run.report.notice("storing checkpoint: " + err.Error())
	}
	return nil
}

// drop removes the file.
func (c *checkpointer) drop() {
	if c.path == "" {
		return
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !readOnly(err) {
		c.run.report.complain(fmt.Errorf("removing checkpoint: %w", err))
	}
}

func readOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// strong tells whether an ETag promises the same bytes (RFC 9110, 8.8.1).
func strong(etag string) bool { return etag != "" && !strings.HasPrefix(etag, "W/") }
