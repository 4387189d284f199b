package format

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/format/confine"
	"github.com/gild-project/gild/pkg/format/nbd"
	"github.com/gild-project/gild/pkg/format/refusal"
)

const (
	// toolMemory is the address space of qemu-img: Nova's limit. Most of it is the stacks of
	// its threads; what is resident stays well below.
	toolMemory = 2 << 30
	// toolSeconds and toolRate bound its processor time: a start, and the slowest
	// decompression worth waiting for. A hostile image costs no more than this.
	toolSeconds = 120
	toolRate    = 4 << 20
)

// QemuImg runs qemu-img, the reference for every format. It only sees images that passed the
// gate, under limits, with both ends as open files: it looks up no name and finds no other file.
type QemuImg struct {
	// Path of the program. Empty means qemu-img from PATH.
	Path string
}

// ReaderAt is an image that is read at random, from many goroutines at once. It fills p or fails,
// and retries by itself.
type ReaderAt interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Conversion is one run of qemu-img convert.
type Conversion struct {
	// Source is an image of SourceFormat that passed its check: an open file, or nil when Image
	// has it.
	Source *os.File
	// Image is read in place of Source and has Size bytes. Its errors are returned as they are:
	// they know more than qemu-img.
	Image        ReaderAt
	Size         int64
	SourceFormat Format
	// Target is opened for writing and reads as zero. qemu-img writes to the same inode through
	// a descriptor of its own; the caller syncs Target afterwards.
	Target       *os.File
	TargetFormat Format
	// VirtualSize of the target in bytes, at least that of the source.
	VirtualSize int64
	// DataBytes is how much there is to convert; it bounds the processor time.
	DataBytes int64
	// Progress is told the done part between 0 and 1. May be nil.
	Progress func(done float64)
}

// The descriptors of a run's files in the child: the first ones after stderr.
const (
	firstInChild  = 3
	sourceInChild = "/proc/self/fd/3"
	targetInChild = "/proc/self/fd/4"
)

// Convert copies the disk in the source to c.Target. With direct I/O qemu-img may leave a raw
// file up to 4 KiB longer than VirtualSize, with zeros: the caller sets its size.
func (q QemuImg) Convert(ctx context.Context, c Conversion) error {
	if c.TargetFormat == Qcow2 {
		create := []string{"create", "-q", "-f", "qcow2", sourceInChild, strconv.FormatInt(c.VirtualSize, 10)}
		if err := q.run(ctx, c, create, c.Target); err != nil {
			return err
		}
	}
	if c.Image != nil {
		return q.convertImage(ctx, c)
	}
	protocol, err := fileProtocol(c.Source)
	if err != nil {
		return err
	}
	// Only these cache modes let qemu-img see its write errors.
	cache := "none"
	if !allowsDirect(inParent(c.Source)) {
		cache = "writeback"
	}
	return q.convert(ctx, c, protocol, cache, c.Source)
}

// convertImage has qemu-img read the image from our NBD server. The two have a connection that
// has no name, so that nobody else finds it, and that qemu-img, which may open no socket,
// inherits.
func (q QemuImg) convertImage(ctx context.Context, c Conversion) error {
	ours, theirs, err := connection()
	if err != nil {
		return refusal.By(refusal.InternalError, "connecting qemu-img to the image", err)
	}
	served := make(chan error, 1)
	go func() { served <- nbd.Serve(ctx, ours, nbd.Export{Size: c.Size, ReadAt: c.Image.ReadAt}) }()
	protocol := map[string]any{
		"driver": "nbd", "export": "", "server": map[string]any{"type": "fd", "str": strconv.Itoa(firstInChild)},
	}
	err = q.convert(ctx, c, protocol, "writeback", theirs)
	_ = theirs.Close()
	// What went wrong with the image says more than that qemu-img could not read it.
	if failed := <-served; failed != nil {
		return failed
	}
	return err
}

// connection makes two ends of a connection, ours and one for the child.
func connection() (ours net.Conn, theirs *os.File, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	file := os.NewFile(uintptr(ends[0]), "image")
	theirs = os.NewFile(uintptr(ends[1]), "image")
	// FileConn has a copy of its own.
	ours, err = net.FileConn(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// convert runs qemu-img with the source behind the given protocol node. The source's file is
// the first that it inherits.
func (q QemuImg) convert(ctx context.Context, c Conversion, protocol map[string]any, sourceCache string, source *os.File) error {
	image, err := c.blockdev(ctx, protocol)
	if err != nil {
		return err
	}
	targetCache := "none"
	if !allowsDirect(inParent(c.Target)) {
		targetCache = "writethrough"
	}
	args := []string{"convert", "-p", "-n", "--target-is-zero", "-t", targetCache, "-T", sourceCache, "-m", "16"}
	if c.TargetFormat == Raw {
		// A qcow2 image written out of order would be out of order for all its life.
		args = append(args, "-W")
	}
	args = append(args, "-f", driver(c.SourceFormat), "-O", driver(c.TargetFormat), image, targetInChild)
	return q.run(ctx, c, args, source, c.Target)
}

// driver is qemu's name of a format.
func driver(f Format) string {
	switch f {
	case ISO:
		return string(Raw)
	case VHD:
		return "vpc"
	}
	return string(f)
}

func fileProtocol(f *os.File) (map[string]any, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at image: %w", err)
	}
	protocol := "file"
	if !info.Mode().IsRegular() {
		protocol = "host_device"
	}
	return map[string]any{"driver": protocol, "filename": sourceInChild}, nil
}

// blockdev describes the source without leaving anything to be found out: neither the format
// nor a backing file, nor which of two sizes is meant.
func (c Conversion) blockdev(ctx context.Context, protocol map[string]any) (string, error) {
	node := map[string]any{"driver": driver(c.SourceFormat), "file": protocol}
	switch c.SourceFormat {
	case Qcow2, VMDK:
		node["backing"] = nil
	case VHD:
		rule, err := c.sizeRule(ctx)
		if err != nil {
			return "", err
		}
		node["force_size_calc"] = rule
	}
	text, err := json.Marshal(node)
	return "json:" + string(text), err
}

func (c Conversion) sizeRule(ctx context.Context) (string, error) {
	if c.Image != nil {
		return vhdSizeRule(ctx, c.Image, c.Size)
	}
	info, err := c.Source.Stat()
	if err != nil {
		return "", fmt.Errorf("looking at image: %w", err)
	}
	return vhdSizeRule(ctx, openFile{c.Source}, info.Size())
}

// openFile is read at random like every image.
type openFile struct{ *os.File }

// ReadAt implements ReaderAt.
func (f openFile) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return f.File.ReadAt(p, off)
}

func inParent(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func allowsDirect(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// run starts qemu-img and gives its failure a reason.
func (q QemuImg) run(ctx context.Context, c Conversion, args []string, files ...*os.File) error {
	seconds := toolSeconds + c.DataBytes/toolRate
	tool := confine.Tool{Name: q.path(), Args: args, Memory: toolMemory, Seconds: seconds, Files: files}
	if c.Progress != nil {
		tool.Stdout = &percent{report: c.Progress}
	}
	err := confine.Run(ctx, tool)
	var failure *confine.Failure
	if !errors.As(err, &failure) {
		return err
	}
	return toolError(failure, seconds)
}

func (q QemuImg) path() string {
	if q.Path == "" {
		return "qemu-img"
	}
	return q.Path
}

// toolError gives a failed run its reason.
func toolError(f *confine.Failure, seconds int64) error {
	says := f.Error()
	writing := strings.Contains(says, "writing") || strings.Contains(says, "flush")
	switch {
	case f.Missing:
		return refusal.By(refusal.InternalError, "starting qemu-img: install qemu-utils and util-linux", f)
	case f.Killed:
		return refusal.New(refusal.ConversionFailed, fmt.Sprintf("converting image: qemu-img was killed: it may use %d s of processor time, or the memory limit was too low", seconds))
	case strings.Contains(says, "No space left on device"):
		return refusal.By(refusal.NoSpace, "converting image: the volume is full: ask for a larger one", f)
	case writing && strings.Contains(says, "Input/output error"):
		return refusal.By(refusal.TargetError, "converting image: writing target", f)
	}
	return refusal.By(refusal.ConversionFailed, "converting image: qemu-img cannot read it", f)
}

// percent reads the progress of qemu-img: "    (12.34/100%)" and a carriage return.
type percent struct {
	report func(done float64)
	line   []byte
}

var _ io.Writer = (*percent)(nil)

func (w *percent) Write(p []byte) (int, error) {
	w.line = append(w.line, p...)
	for {
		line, rest, found := bytes.Cut(w.line, []byte("\r"))
		if !found {
			break
		}
		w.line = rest
		text, _, _ := strings.Cut(strings.TrimSpace(string(line)), "/")
		if n, err := strconv.ParseFloat(strings.TrimPrefix(text, "("), 64); err == nil {
			w.report(min(max(n/100, 0), 1))
		}
	}
	if len(w.line) > 100 {
		w.line = nil
	}
	return len(p), nil
}
