package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/spf13/pflag"
)

// CompleteCommand is the first argument that has the importer complete a volume in place of importing an image.
const CompleteCommand = "complete"

// CompleteOptions says which volume holds a disk already, where that ends, and what it was made from. It holds no
// secret: secrets are files in SecretDir.
type CompleteOptions struct {
	// Target is a block device, or a directory with disk.img.
	Target string
	// DiskEnd is where the disk on a block device ends, in bytes. What comes after it will read as zero. It
	// says nothing of a directory.
	DiskEnd Size
	// Source is what the disk was made from, as in Options. Before anything is done to the volume it must prove to be
	// at Pin still, for whoever has the secrets in SecretDir. Empty asks nobody.
	Source string
	// Platform, Pin, SecretDir, CADir and RegistryConfig are those of Options.
	Platform       string
	Pin            Pin
	SecretDir      string
	CADir          string
	RegistryConfig string
	// TerminationLog is the file that gets the Result, where Kubernetes reads it. Empty writes none.
	TerminationLog string
}

// BindFlags sets o to the defaults and ties each field to its flag.
func (o *CompleteOptions) BindFlags(fs *pflag.FlagSet) {
	*o = CompleteOptions{}
	fs.StringVar(&o.Target, "target", "", "`PATH` of a block device, or of a directory with disk.img")
	fs.Var(&o.DiskEnd, "disk-end", "where the disk on a block device ends: what comes after it will read as zero")
	fs.StringVar(&o.Source, "source", "", "`URL` of what the disk was made from: it must be at --pin still")
	fs.StringVar(&o.Platform, "platform", "", "`OS/ARCH` of a container image; not set: this machine's")
	fs.Var(&o.Pin, "pin", `the revision of the source: {"etag":…,"lastModified":…,"length":…,"digest":…}`)
	fs.StringVar(&o.SecretDir, "secret-dir", "", "`DIR` with credentials for the source")
	fs.StringVar(&o.CADir, "ca-dir", "", "`DIR` with PEM certificates to trust beside the system's")
	fs.StringVar(&o.RegistryConfig, "registry-config", defaultRegistryConfig, "`DIR` with registries.conf and policy.json, if there are any")
	fs.StringVar(&o.TerminationLog, "termination-log", "", "`PATH` of a file that gets the result as JSON")
}

// Args returns the command line that BindFlags reads back into o, with the command first.
func (o CompleteOptions) Args() []string {
	var bound CompleteOptions
	return append([]string{CompleteCommand}, arguments(func(fs *pflag.FlagSet) {
		bound.BindFlags(fs)
		bound = o
	})...)
}

// Validate reports the first option that cannot work. It looks at nothing but o.
func (o CompleteOptions) Validate() error {
	if o.Target == "" {
		return errors.New("--target is missing: give a block device or a directory")
	}
	if o.Source == "" {
		return nil
	}
	return o.Origin().Validate()
}

// Origin are the options of an import from Source.
func (o CompleteOptions) Origin() Options {
	var origin Options
	origin.BindFlags(pflag.NewFlagSet("importer", pflag.ContinueOnError)) // for the defaults
	origin.Source, origin.Target, origin.Platform, origin.Pin = o.Source, o.Target, o.Platform, o.Pin
	origin.SecretDir, origin.CADir, origin.RegistryConfig = o.SecretDir, o.CADir, o.RegistryConfig
	return origin
}

// Volume is a target that holds a disk already.
type Volume interface {
	// Complete makes what comes from byte end of a block device on read as zero, and returns the size of the disk.
	Complete(ctx context.Context, end int64) (size int64, err error)
}

// Completion is what Complete joins. cmd/importer fills it in.
type Completion struct {
	// Prove reads nothing of a source and fails unless Options.SecretDir opens it and it is at Options.Pin.
	Prove func(ctx context.Context, o Options) error
	// OpenVolume looks at a target and changes nothing.
	OpenVolume func(path string) (Volume, error)
	Clock      Clock
	// Stdout gets the result, Stderr errors for people.
	Stdout, Stderr io.Writer
}

// Complete finishes a volume that holds a disk, and prints the Result as one line of JSON.
func Complete(ctx context.Context, o CompleteOptions, p Completion) Result {
	start := p.Clock.Now()
	result := Result{Reason: Imported, SourceFormat: FormatRaw}
	var err error
	if result.VirtualSize, err = complete(ctx, o, p); err != nil {
		failure := Classify(err)
		if ctx.Err() != nil && failure.Reason.ExitCode() != ExitTarget {
			failure = &Error{Reason: Interrupted, Err: errors.New("the importer was told to stop: the volume is not complete")}
		}
		result = Result{Reason: failure.Reason, Message: failure.Error()}
		if failure.Reason.ExitCode() == ExitTransient {
			result.RetryAfterSeconds = int64(math.Ceil(failure.RetryAfter.Seconds()))
		}
	}
	result.Seconds = math.Round(p.Clock.Now().Sub(start).Seconds()*1000) / 1000
	_, _ = fmt.Fprintf(p.Stdout, "%s\n", result.Marshal())
	if err := writeTermination(o.TerminationLog, result); err != nil {
		_, _ = fmt.Fprintf(p.Stderr, "importer: %s\n", err)
	}
	return result
}

func complete(ctx context.Context, o CompleteOptions, p Completion) (size int64, err error) {
	if err := o.Validate(); err != nil {
		return 0, &Error{Reason: InvalidOptions, Err: err}
	}
	if o.Source != "" {
		if err := p.Prove(ctx, o.Origin()); err != nil {
			return 0, err
		}
	}
	volume, err := p.OpenVolume(o.Target)
	if err != nil {
		return 0, err
	}
	return volume.Complete(ctx, int64(o.DiskEnd))
}
