package importer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/spf13/pflag"
)

// CompleteCommand is the first argument that has the importer complete a volume in place of importing an image.
const CompleteCommand = "complete"

// CompleteOptions says which volume holds a disk already, and where that ends.
type CompleteOptions struct {
	// Target is a block device, or a directory with disk.img.
	Target string
	// DiskEnd is where the disk on a block device ends, in bytes. What comes after it will read as zero. It
	// says nothing of a directory.
	DiskEnd Size
	// TerminationLog is the file that gets the Result, where Kubernetes reads it. Empty writes none.
	TerminationLog string
}

// BindFlags sets o to the defaults and ties each field to its flag.
func (o *CompleteOptions) BindFlags(fs *pflag.FlagSet) {
	*o = CompleteOptions{}
	fs.StringVar(&o.Target, "target", "", "`PATH` of a block device, or of a directory with disk.img")
	fs.Var(&o.DiskEnd, "disk-end", "where the disk on a block device ends: what comes after it will read as zero")
	fs.StringVar(&o.TerminationLog, "termination-log", "", "`PATH` of a file that gets the result as JSON")
}

// Args returns the command line that BindFlags reads back into o, with the command first.
func (o CompleteOptions) Args() []string {
	args := []string{CompleteCommand, "--target=" + o.Target}
	if o.DiskEnd > 0 {
		args = append(args, "--disk-end="+o.DiskEnd.String())
	}
	if o.TerminationLog != "" {
		args = append(args, "--termination-log="+o.TerminationLog)
	}
	return args
}

// Volume is a target that holds a disk already.
type Volume interface {
	// Complete makes what comes from byte end of a block device on read as zero, and returns the size of the disk.
	Complete(ctx context.Context, end int64) (size int64, err error)
}

// Complete finishes a volume that holds a disk, and prints the Result as one line of JSON. open looks at a
// target and changes nothing.
func Complete(ctx context.Context, o CompleteOptions, open func(path string) (Volume, error), p Parts) Result {
	start := p.Clock.Now()
	result := Result{Reason: Imported, SourceFormat: FormatRaw}
	var err error
	if result.VirtualSize, err = complete(ctx, o, open); err != nil {
		failure := Classify(err)
		if ctx.Err() != nil && failure.Reason.ExitCode() != ExitTarget {
			failure = &Error{Reason: Interrupted, Err: errors.New("the importer was told to stop: the volume is not complete")}
		}
		result = Result{Reason: failure.Reason, Message: failure.Error()}
	}
	result.Seconds = math.Round(p.Clock.Now().Sub(start).Seconds()*1000) / 1000
	_, _ = fmt.Fprintf(p.Stdout, "%s\n", result.Marshal())
	if err := writeTermination(o.TerminationLog, result); err != nil {
		_, _ = fmt.Fprintf(p.Stderr, "importer: %s\n", err)
	}
	return result
}

func complete(ctx context.Context, o CompleteOptions, open func(path string) (Volume, error)) (size int64, err error) {
	if o.Target == "" {
		return 0, &Error{Reason: InvalidOptions, Err: errors.New("--target is missing: give a block device or a directory")}
	}
	volume, err := open(o.Target)
	if err != nil {
		return 0, err
	}
	return volume.Complete(ctx, int64(o.DiskEnd))
}
