package importer

import (
	"context"
	"fmt"
	"slices"
)

// inspected is what the first bytes of a source tell.
type inspected struct {
	source Source
	// hangUp ends the source, also while somebody waits for its bytes.
	hangUp context.CancelFunc
	// head is the start of the source as served, until a stream took it.
	head []byte
	// compression is the format of a stream around the image, empty without one.
	compression string
	// stream is open and read up to imageHead, when there is a compression.
	stream *stream
	// image is the format of the image itself, imageHead its start.
	image     Detected
	imageHead []byte
	// header is of an image with one.
	header Header
	// size is the virtual size the target will have, -1 while it is not known.
	size int64
}

// close frees what inspect opened.
func (i *inspected) close() {
	if i.stream != nil {
		i.stream.close()
	}
}

// way is how an image comes to its target.
type way string

const (
	// byPieces reads what is needed of the source, over several connections, each piece straight to its place.
	byPieces way = "pieces"
	// inOrder reads the source from its first byte to its last, once or twice.
	inOrder way = "order"
	// byTool has qemu-img read the source where it is.
	byTool way = "tool"
	// bySpool downloads the whole image into scratch space for qemu-img.
	bySpool way = "spool"
)

// way decides by what the source can and what the image is. It is the one fork of the importer.
func (i *inspected) way(targetFormat string) way {
	ranged := i.compression == "" && i.source.Ranged()
	raw := targetFormat == FormatRaw
	switch {
	case raw && ranged && (i.image.Flat || i.image.Mapped):
		return byPieces
	case raw && (i.image.Flat || i.image.Streamable):
		return inOrder
	case ranged && !i.unchecked():
		return byTool
	}
	return bySpool
}

// unchecked tells an image that only a pass can check: no tool may see it.
func (i *inspected) unchecked() bool { return i.image.Streamable && !i.image.Mapped }

// inspect reads the head, and the end if the source can, and refuses what cannot work before
// anything is downloaded or written.
func (r *run) inspect(ctx context.Context, source Source, hangUp context.CancelFunc) (*inspected, error) {
	head := make([]byte, r.parts.Formats.HeadSize())
	n, err := readFull(ctx, source, head)
	if err != nil && !isEnd(err) {
		return nil, err
	}
	i := &inspected{source: source, hangUp: hangUp, head: head[:n], imageHead: head[:n], size: -1}
	if err := r.look(ctx, i); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

func (r *run) look(ctx context.Context, i *inspected) error {
	if r.origin.Digest == "" {
		r.result.ETag, r.result.LastModified = i.source.Validators()
	}
	tail, err := r.tail(ctx, i.source)
	if err != nil {
		return err
	}
	if err := r.recognise(ctx, i, tail); err != nil {
		return err
	}
	r.found(i, i.image)
	if err := r.checkLength(i); err != nil {
		return err
	}
	return r.checkSize(i)
}

// tail reads the end of a source that is read at random: a fixed VHD is a flat disk but for its
// end. A source that is read in order may say it; without, the stream itself will show it.
func (r *run) tail(ctx context.Context, source Source) ([]byte, error) {
	n := r.parts.Formats.TailSize()
	if !source.Ranged() || source.Size() < n {
		tail, _ := source.Tail(ctx, n)
		return tail, nil
	}
	tail := make([]byte, n)
	if _, err := source.ReadAt(ctx, tail, source.Size()-n); err != nil {
		return nil, fmt.Errorf("reading the end of the source: %w", err)
	}
	return tail, nil
}

// found records the format, with the compression around it.
func (r *run) found(i *inspected, image Detected) {
	r.result.SourceFormat = image.Format
	if i.compression != "" {
		r.result.SourceFormat += "+" + i.compression
	}
}

// recognise finds the format, through a compression if there is one.
func (r *run) recognise(ctx context.Context, i *inspected, tail []byte) (err error) {
	want := r.wanted()
	formats := r.parts.Formats
	if i.image, err = formats.Detect(i.head, tail, i.source.ContentType(), ""); err != nil {
		return err
	}
	if !i.image.Compressed {
		i.image, err = formats.Detect(i.head, tail, i.source.ContentType(), want)
		return err
	}
	if want == i.image.Format {
		want = ""
	}
	i.compression = i.image.Format
	if i.stream, err = r.takeStream(ctx, i); err != nil {
		return err
	}
	i.imageHead = make([]byte, formats.HeadSize())
	n, _, err := fill(i.stream, i.imageHead)
	if err != nil {
		return err
	}
	i.imageHead = i.imageHead[:n]
	if n == 0 {
		return &Error{Reason: EmptySource, Err: fmt.Errorf("%s is a %s stream of no bytes", i.source.Name(), i.compression)}
	}
	i.stream.unread(i.imageHead)
	if i.image, err = formats.Detect(i.imageHead, nil, "", want); err != nil {
		return fmt.Errorf("looking into the %s stream: %w", i.compression, err)
	}
	if i.image.Compressed {
		return &Error{Reason: UnsupportedFormat, Err: fmt.Errorf("%s is compressed twice, %s in %s: unpack it once", i.source.Name(), i.image.Format, i.compression)}
	}
	return nil
}

// wanted is the format that the image must have, empty for any.
func (r *run) wanted() string {
	switch r.options.SourceFormat {
	case FormatAuto:
		return ""
	case "vpc":
		return "vhd"
	}
	return r.options.SourceFormat
}

// mustBe refuses a format that only the end of an image showed.
func (r *run) mustBe(format string) error {
	if wanted := r.wanted(); wanted != "" && wanted != format {
		return &Error{Reason: FormatMismatch, Err: fmt.Errorf("the image is %s and must be %s", format, wanted)}
	}
	return nil
}

// checkLength refuses a raw disk of which nobody could tell that it was cut.
func (r *run) checkLength(i *inspected) error {
	if i.source.Framed() || !i.image.Flat || i.compression != "" || slices.ContainsFunc(r.expected, func(c Checksum) bool { return c.Hex != "" }) {
		return nil
	}
	return &Error{Reason: LengthUnknown, Err: fmt.Errorf("%s sends neither a length nor chunks: a cut connection would look like the end: give --checksum, or use another server", i.source.Name())}
}

// checkSize works out the size of the disk and whether it fits, if the head tells.
func (r *run) checkSize(i *inspected) (err error) {
	own := int64(-1)
	switch {
	case i.image.Headed:
		if i.header, err = r.parts.Formats.ReadHeader(i.image.Format, i.imageHead); err != nil {
			return err
		}
		own = i.header.VirtualSize
	case i.image.Flat && i.compression == "":
		own = i.source.Size()
	}
	if own < 0 {
		return nil
	}
	i.size, err = r.finalSize(own)
	return err
}

// finalSize is the size of the target for a disk of own bytes: whole sectors, grown if asked.
func (r *run) finalSize(own int64) (int64, error) {
	size := (own + 511) / 512 * 512
	if wanted := r.wantedSize(); wanted > 0 {
		if wanted < size {
			return 0, &Error{Reason: TooLarge, Err: fmt.Errorf("the disk has %d bytes and --target-size is %d: a disk cannot be made smaller", size, wanted)}
		}
		size = wanted
	}
	r.result.VirtualSize = size
	if r.options.TargetFormat == FormatRaw {
		return size, r.target.Fits(size)
	}
	if size > maxQcow2Disk {
		return 0, &Error{Reason: TooLarge, Err: fmt.Errorf("the disk has %d bytes, more than the %d that are supported", size, int64(maxQcow2Disk))}
	}
	return size, nil
}

// blankLeast is how much a blank disk must have of what was asked for, in percent. KubeVirt takes as much for enough.
const blankLeast = 90

// wantedSize is what the disk shall grow to. Nobody knows before what a file system leaves of a volume: a blank disk
// has what there is, if that is not much less than was asked for.
func (r *run) wantedSize() int64 {
	const mib = 1 << 20
	wanted := int64(r.options.TargetSize)
	if room := r.target.Capacity() / mib * mib; r.options.Source == SourceBlank && r.options.TargetFormat == FormatRaw && room < wanted && room >= wanted/100*blankLeast {
		return room
	}
	return wanted
}

// maxDisk is the largest disk that is worth looking at.
func (r *run) maxDisk() int64 {
	if r.options.TargetFormat == FormatQcow2 {
		return maxQcow2Disk
	}
	return r.target.Capacity()
}
