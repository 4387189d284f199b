// Command importer copies one disk image into one volume, or exports one volume to be copied.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/gild-project/gild/pkg/importer"
)

// memoryLimit keeps the process below the 128 MiB that its pod may use.
const memoryLimit = 96 << 20

func main() {
	debug.SetMemoryLimit(memoryLimit)
	// net/http logs what a server sends unasked: nothing of a stranger goes into our log.
	log.SetOutput(io.Discard)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], wire)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, join func(importer.Options) importer.Parts) int {
	if len(args) > 0 && args[0] == "serve" {
		return serve(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == importer.CompleteCommand {
		return complete(ctx, args[1:])
	}
	var o importer.Options
	flags := pflag.NewFlagSet("importer", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {
		_, _ = fmt.Fprintf(os.Stdout, "importer copies one disk image into one volume.\n\n  importer --source URL --target PATH [flags]\n  importer serve --help\n\n%s", flags.FlagUsages())
	}
	o.BindFlags(flags)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return importer.ExitDone
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q: all options are flags", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "importer: %s: %v\n", importer.InvalidOptions, err)
		return importer.ExitOptions
	}
	parts := join(o)
	parts.Stdout, parts.Stderr, parts.Terminal = os.Stdout, os.Stderr, term.IsTerminal(int(os.Stderr.Fd()))
	result, _ := importer.Run(ctx, o, parts)
	return result.Reason.ExitCode()
}
