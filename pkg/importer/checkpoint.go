package importer

import (
	"errors"
	"fmt"
	"strings"
)

// checkpointVersion is raised when the order of pieces or the meaning of a field changes.
const checkpointVersion = 2

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
	// Tables is the digest of the image's tables, and Slices how many parts they are read in.
	Tables string `json:"tables,omitempty"`
	Slices int    `json:"slices"`
	// All pieces of the source before Offset, and those of slices before Slice, are stored on the target.
	Slice  int   `json:"slice,omitempty"`
	Offset int64 `json:"offset"`
	// Checksums are the expected ones, and Hashes the state of each at Offset as Runtime wrote it.
	Checksums []string `json:"checksums,omitempty"`
	Hashes    [][]byte `json:"hashes,omitempty"`
	Runtime   string   `json:"runtime,omitempty"`
	// Witness are the places of the target that must still look as they did, and Seal is the sha256
	// of what was there and of all fields above.
	Witness []int64 `json:"witness"`
	Seal    string  `json:"seal"`
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
		{"number of slices", c.Slices, other.Slices},
		{"checksum", strings.Join(c.Checksums, " "), strings.Join(other.Checksums, " ")},
		{"version of Go", c.Runtime, other.Runtime},
	} {
		if field.stored != field.found {
			return fmt.Errorf("the checkpoint is of another import: its %s is %v and not %v", field.name, field.stored, field.found)
		}
	}
	return nil
}

// inRange refuses numbers that no run wrote.
func (c Checkpoint) inRange() error {
	wrong := c.Offset <= 0 || c.Offset > c.Length || c.Slice < 0 || c.Slice >= c.Slices ||
		len(c.Witness) == 0 || len(c.Witness) > maxSamples
	for _, off := range c.Witness {
		wrong = wrong || off < 0 || off%sampleSize != 0 || off > c.VirtualSize-sampleSize
	}
	if wrong {
		return errors.New("the checkpoint contradicts itself")
	}
	return nil
}
