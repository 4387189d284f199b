package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/gild-project/gild/pkg/exporter"
	"github.com/gild-project/gild/pkg/importer"
)

// serve is `importer serve`: it exports one volume until it is told to stop or nobody reads any more.
func serve(ctx context.Context, args []string) int {
	var o exporter.Options
	flags := pflag.NewFlagSet("importer serve", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {
		_, _ = fmt.Fprintf(os.Stdout, "importer serve exports one volume over HTTPS, for reading alone.\n\n  importer serve --target PATH --tls-cert FILE --tls-key FILE --token-file FILE --revision TEXT [flags]\n\n%s", flags.FlagUsages())
	}
	o.BindFlags(flags)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return importer.ExitDone
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: all options are flags", flags.Arg(0))
	}
	if err != nil {
		err = &importer.Error{Reason: importer.InvalidOptions, Err: err}
	} else {
		err = export(ctx, o)
	}
	if err == nil {
		return importer.ExitDone
	}
	failure := importer.Classify(err)
	fmt.Fprintf(os.Stderr, "importer: %s: %v\n", failure.Reason, failure)
	return failure.Reason.ExitCode()
}

func export(ctx context.Context, o exporter.Options) error {
	e, err := exporter.Open(o, exporter.System())
	if err != nil {
		return err
	}
	l, err := e.Listen(ctx)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	_, _ = fmt.Fprintf(os.Stdout, "serving %s at %s\n", o.Target, l.Addr())
	return errors.Join(e.Serve(ctx, l), e.Close())
}
