package format

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/format/confine"
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

// Conversion is one run of qemu-img convert.
type Conversion struct {
	// Source is an image of SourceFormat that passed its check.
	Source       *os.File
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

// The descriptors of the two files in the child: the first ones after stderr.
const (
	sourceInChild = "/proc/self/fd/3"
	targetInChild = "/proc/self/fd/4"
)

// Convert copies the disk in c.Source to c.Target. With direct I/O qemu-img may leave a raw
// file up to 4 KiB longer than VirtualSize, with zeros: the caller sets its size.
func (q QemuImg) Convert(ctx context.Context, c Conversion) error {
	if c.TargetFormat == Qcow2 {
		create := []string{"create", "-q", "-f", "qcow2", targetInChild, strconv.FormatInt(c.VirtualSize, 10)}
		if err := q.run(ctx, c, create); err != nil {
			return err
		}
	}
	source, err := blockdev(c.Source, c.SourceFormat)
	if err != nil {
		return err
	}
	// Only these cache modes let qemu-img see its write errors.
	sourceCache, targetCache := "none", "none"
	if !allowsDirect(inParent(c.Source)) {
		sourceCache = "writeback"
	}
	if !allowsDirect(inParent(c.Target)) {
		targetCache = "writethrough"
	}
	return q.run(ctx, c, []string{
		"convert", "-p", "-n", "--target-is-zero", "-t", targetCache, "-T", sourceCache,
		"-f", string(c.SourceFormat), "-O", string(c.TargetFormat), source, targetInChild,
	})
}

// blockdev describes the source without leaving anything to be found out: neither the format
// nor a backing file.
func blockdev(f *os.File, format Format) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("looking at image: %w", err)
	}
	protocol := "file"
	if !info.Mode().IsRegular() {
		protocol = "host_device"
	}
	node := map[string]any{"driver": format, "file": map[string]any{"driver": protocol, "filename": sourceInChild}}
	if format == Qcow2 {
		node["backing"] = nil
	}
	text, err := json.Marshal(node)
	return "json:" + string(text), err
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
func (q QemuImg) run(ctx context.Context, c Conversion, args []string) error {
	seconds := toolSeconds + c.DataBytes/toolRate
	tool := confine.Tool{Name: q.path(), Args: args, Memory: toolMemory, Seconds: seconds, Files: []*os.File{c.Source, c.Target}}
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
