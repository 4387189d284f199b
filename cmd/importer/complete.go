package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/source"
	"github.com/gild-project/gild/pkg/target"
)

// complete runs `importer complete`.
func complete(ctx context.Context, args []string) int {
	var o importer.CompleteOptions
	flags := pflag.NewFlagSet("importer "+importer.CompleteCommand, pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {
		_, _ = fmt.Fprintf(os.Stdout, "importer complete finishes a volume that was restored from a snapshot.\n\n  importer complete --target PATH --disk-end SIZE [--source URL --pin JSON]\n\n%s", flags.FlagUsages())
	}
	o.BindFlags(flags)
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q: all options are flags", flags.Arg(0))
	}
	if errors.Is(err, pflag.ErrHelp) {
		return importer.ExitDone
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "importer: %s: %v\n", importer.InvalidOptions, err)
		return importer.ExitOptions
	}
	return importer.Complete(ctx, o, importer.Completion{
		Prove:      prove,
		OpenVolume: func(path string) (importer.Volume, error) { return target.Open(path) },
		Clock:      source.SystemClock{}, Stdout: os.Stdout, Stderr: os.Stderr,
	}).Reason.ExitCode()
}

// prove asks a source for no more than an import does before its first byte.
func prove(ctx context.Context, o importer.Options) error {
	notice := func(message string) { fmt.Fprintf(os.Stderr, "importer: %s\n", message) }
	if o.Container() {
		image, err := openContainer(ctx, o, importer.Opening{Notice: notice})
		if err != nil {
			return err
		}
		return image.Close()
	}
	credentials, err := source.ReadCredentials(o.SecretDir)
	if err != nil {
		return err
	}
	return source.Prove(ctx, o.Source, source.Options{
		Credentials: credentials, CADir: o.CADir, Notice: notice,
		Pin: source.Revision{ETag: o.Pin.ETag, LastModified: o.Pin.LastModified, Length: o.Pin.Length},
	})
}
