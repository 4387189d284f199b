package importer

import (
	"context"
	"io"
	"os"
	"time"
)

// Source is one open image, read once from its first byte to its last.
type Source interface {
	// Read fills p like an io.Reader and retries by itself. An error that offers
	// StartOver() bool with true means: open the source again and begin anew.
	Read(ctx context.Context, p []byte) (int, error)
	// Tail returns the last n bytes without moving Read, or an error if the source cannot.
	Tail(ctx context.Context, n int64) ([]byte, error)
	// Size is the length in bytes, -1 when the source does not say.
	Size() int64
	// Framed is false when a cut connection looks like the end of the image.
	Framed() bool
	// Validators are what tells this revision from others, as served.
	Validators() (etag, lastModified string)
	// ContentType is the media type that the source claims.
	ContentType() string
	// Name is the source for people, without anything secret.
	Name() string
	Close() error
}

// localSource is a source that can be read at random where it is.
type localSource interface {
	File() *os.File
}

// Target is a volume, or the scratch space. Prepare comes before WriteAt; Commit or Discard ends.
type Target interface {
	// Block tells a block device from a file.
	Block() bool
	// Capacity is the largest raw disk in bytes.
	Capacity() int64
	// Fits returns an error with the size to ask for when a raw disk of size bytes does not fit.
	Fits(size int64) error
	// Prepare opens the target, drops its content and gives a file size bytes of zeros. Offsets
	// and lengths of WriteAt are multiples of granule.
	Prepare(ctx context.Context, size, granule int64) error
	// ZeroAll makes all that is not written read as zero now.
	ZeroAll(ctx context.Context) error
	// WriteAt writes at a multiple of the granule. Only the last piece may have another length.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	// Written counts the bytes of data written since Prepare.
	Written() int64
	// File is the descriptor behind WriteAt.
	File() *os.File
	// Settle sets the size, if it is not negative, and stores all. File can be read after it.
	Settle(ctx context.Context, size int64) error
	// Commit settles and makes the disk visible.
	Commit(ctx context.Context, size int64) error
	// Discard leaves nothing that looks like a disk. It does nothing after Commit.
	Discard() error
	String() string
}

// Formats knows disk image formats by their names.
type Formats interface {
	// HeadSize and TailSize are how many bytes Detect wants of both ends.
	HeadSize() int
	TailSize() int64
	// Detect names the format and refuses what is not supported. tail may be nil; want is
	// empty, or the format the image must have.
	Detect(head, tail []byte, contentType, want string) (string, error)
	// VirtualSize reads the size of the disk from the head of a qcow2 image.
	VirtualSize(head []byte) (int64, error)
	// Check reads all tables of a qcow2 image of size bytes. dataBytes is how much data the disk has.
	Check(ctx context.Context, image io.ReaderAt, size, maxVirtualSize int64) (virtualSize, dataBytes int64, err error)
	// Convert copies the disk of a checked image to a prepared target.
	Convert(ctx context.Context, c Conversion) error
}

// Conversion is one call of Formats.Convert.
type Conversion struct {
	Source       *os.File
	SourceFormat string
	Target       *os.File
	TargetFormat string
	// VirtualSize of the target and DataBytes of the source, in bytes.
	VirtualSize, DataBytes int64
	// Progress is told the done part between 0 and 1.
	Progress func(done float64)
}

// Clock tells the time and waits.
type Clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error
}

// Parts are what Run joins. cmd/importer fills them in.
type Parts struct {
	// OpenSource opens Options.Source. notice takes messages for people while it waits.
	OpenSource func(ctx context.Context, notice func(string)) (Source, error)
	// OpenTarget looks at Options.Target and changes nothing.
	OpenTarget func(path string) (Target, error)
	// OpenScratch does the same for a nameless file in a directory.
	OpenScratch func(dir string) (Target, error)
	Formats     Formats
	Clock       Clock
	// Stdout gets progress and results, Stderr the bar and errors for people.
	Stdout, Stderr io.Writer
	// Terminal tells that Stderr is one.
	Terminal bool
}
