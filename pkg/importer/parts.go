package importer

import (
	"cmp"
	"context"
	"io"
	"iter"
	"os"
	"time"
)

// Source is one open image.
type Source interface {
	// Read fills p like an io.Reader, from the first byte to the last, and retries by itself. An
	// error that offers StartOver() bool with true means: open the source again and begin anew.
	Read(ctx context.Context, p []byte) (int, error)
	// Ranged tells that ReadAt works, and that all it reads is of one revision.
	Ranged() bool
	// ReadAt fills p from off. Many calls may run at once; each retries by itself.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Rewind makes Read begin again at the first byte, of the same revision as far as the
	// source can tell. An error says why it cannot.
	Rewind(ctx context.Context) error
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
	// Fetched counts the bytes that came from the source, those of repeated parts again.
	Fetched() int64
	Close() error
}

// Origin is what a source tells of the image that its bytes were found in. A source that is
// such offers Origin() Origin.
type Origin struct {
	// Content is what was found: containerDisk, artifact, rootfs or files.
	Content string
	// Digest is ALG:HEX of the image's manifest, which stands for all of the image.
	Digest string
	// Expected is ALG:HEX that the bytes of the source must have. Empty when the source compares
	// digests by itself.
	Expected string
	// ScratchBytes is how much of the scratch directory the source uses.
	ScratchBytes int64
	// Rows are names and values that a dry run shows.
	Rows [][2]string
}

// Opening is told what happens while a source is opened.
type Opening struct {
	// Notice takes messages for people.
	Notice func(message string)
	// Prepare is told of bytes that must come before the source can be read: how many, -1 when
	// that is not known, and what counts them.
	Prepare func(total int64, fetched func() int64)
}

// Target is a volume, or the scratch space. Prepare or Resume comes before WriteAt; Commit,
// Keep or Discard ends.
type Target interface {
	// Block tells a block device from a file.
	Block() bool
	// Capacity is the largest raw disk in bytes.
	Capacity() int64
	// Fits returns an error with the size to ask for when a raw disk of size bytes does not fit.
	Fits(size int64) error
	// Prepare opens the target, drops its content and gives a file size bytes of zeros. Offsets
	// and lengths of WriteAt will be multiples of granule, but for the end of the disk.
	Prepare(ctx context.Context, size, granule int64) error
	// Resume opens the target with what an earlier run wrote.
	Resume(ctx context.Context, size, granule int64) error
	// WriteAt writes data. Many calls may run at once, in any order.
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
	// ZeroAll makes all that was not written read as zero now, for a tool that writes to File.
	ZeroAll(ctx context.Context) error
	// Zeroed tells that all that was not written reads as zero already.
	Zeroed() bool
	// Sync stores what was written before.
	Sync(ctx context.Context) error
	// Written counts the bytes of data written since Prepare.
	Written() int64
	// File is the descriptor behind WriteAt.
	File() *os.File
	// Settle sets the size, if it is not negative, and stores all. File can be read after it.
	Settle(ctx context.Context, size int64) error
	// Commit settles and makes the disk visible.
	Commit(ctx context.Context, size int64) error
	// Keep closes the target for a later Resume.
	Keep() error
	// Discard leaves nothing that looks like a disk. It does nothing after Commit and Keep.
	Discard() error
	String() string
}

// Sink is the part of a Target that readers of formats write to.
type Sink interface {
	WriteAt(ctx context.Context, p []byte, off int64) (int, error)
}

// RandomReader reads at any place. Many calls may run at once.
type RandomReader interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Formats knows disk image formats by their names.
type Formats interface {
	// HeadSize and TailSize are how many bytes Detect wants of both ends.
	HeadSize() int
	TailSize() int64
	// Detect names the format and refuses what is not supported. tail may be nil; want is
	// empty, or the format the image must have.
	Detect(head, tail []byte, contentType, want string) (Detected, error)
	// ReadHeader is the gate before every reader of an image in a format that has its size in
	// the head.
	ReadHeader(format string, head []byte) (Header, error)
	// Check reads all tables of an image of size bytes. dataBytes is how much data the disk has.
	Check(ctx context.Context, format string, image RandomReader, size, maxVirtualSize int64) (virtualSize, dataBytes int64, err error)
	// Footer finds the size of the disk before the footer of a fixed VHD, of which only
	// both ends are known.
	Footer(ctx context.Context, head, tail []byte, length int64) (virtualSize int64, err error)
	// Open reads the tables of a mapped image of size bytes.
	Open(ctx context.Context, format string, image RandomReader, size, maxVirtualSize int64) (Image, error)
	// NewPass makes a reader for a streamable image that is read in the order of its bytes.
	NewPass(format string, head []byte, maxVirtualSize int64, sink Sink) (Pass, error)
	// Decompress reads a compressed stream. Its errors about the stream are refusals, those of
	// compressed come out as they are.
	Decompress(ctx context.Context, format string, compressed io.Reader) (io.ReadCloser, error)
	// Convert copies the disk of a checked image to a prepared target.
	Convert(ctx context.Context, c Conversion) error
}

// Detected is what the ends of an image tell about its format.
type Detected struct {
	Format string
	// Compressed tells that a disk image may be inside.
	Compressed bool
	// Flat tells that the image is the disk as it is.
	Flat bool
	// Headed tells that ReadHeader knows the size of the disk.
	Headed bool
	// Mapped tells that Open can read it.
	Mapped bool
	// Streamable tells that NewPass can read it.
	Streamable bool
}

// Header is what the head of an image tells.
type Header struct {
	// VirtualSize of the disk, in bytes.
	VirtualSize int64
	// Granule is what offsets and lengths of writes will be multiples of.
	Granule int64
}

// Image is an image of which the tables are known, and whose parts can be read in any order.
type Image interface {
	// Slices is how many parts its tables are read in, to bound their memory.
	Slices() int
	// Pieces lists what to read of the image for one slice, in the order of its bytes. With
	// whole they cover every byte.
	Pieces(ctx context.Context, slice int, whole bool, sink Sink) iter.Seq2[Piece, error]
	// Digest tells this image's tables from others.
	Digest() string
}

// Piece is a part of an image.
type Piece struct {
	Off, Len int64
	// Place decodes data, the bytes of the piece, and writes them where they belong on the
	// disk. It does not keep data.
	Place func(ctx context.Context, data []byte) error
}

// Pass reads an image in the order of its bytes.
type Pass interface {
	// Write takes the next bytes of the image. It does not keep data.
	Write(ctx context.Context, data []byte) error
	// End follows the last byte. With again the whole image must be written once more, because
	// data came before the tables that say where it belongs; then comes another End.
	End(ctx context.Context) (again bool, err error)
	// Close frees what End did not.
	Close()
}

// Conversion is one call of Formats.Convert.
type Conversion struct {
	// Source is a checked image of Size bytes, in a file or wherever it is.
	Source       RandomReader
	SourceFile   *os.File
	Size         int64
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
	// OpenSource opens Options.Source.
	OpenSource func(ctx context.Context, o Opening) (Source, error)
	// Unpack writes the files of a container image into the directory Options.Target. A dry run only
	// looks at the image. written is told how many bytes were written until now.
	Unpack func(ctx context.Context, o Opening, written func(n int64)) (Origin, error)
	// OpenTarget looks at Options.Target and changes nothing.
	OpenTarget func(path string) (Target, error)
	// OpenScratch does the same for a nameless file in a directory.
	OpenScratch func(dir string) (Target, error)
	Formats     Formats
	Clock       Clock
	// CheckpointEvery and CheckpointBytes are what a killed run loses at most. 0 means 10 s and 256 MiB.
	CheckpointEvery time.Duration
	CheckpointBytes int64
	// Stdout gets progress and results, Stderr the bar and errors for people.
	Stdout, Stderr io.Writer
	// Terminal tells that Stderr is one.
	Terminal bool
}

func (p Parts) checkpointPace() (every time.Duration, most int64) {
	return cmp.Or(p.CheckpointEvery, defaultCheckpointEvery), cmp.Or(p.CheckpointBytes, defaultCheckpointBytes)
}
