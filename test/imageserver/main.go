// Command imageserver is what the end-to-end tests run inside the cluster: a web
// server of disk images that misbehaves on demand (serve), a reader that proves what
// a volume holds (verify), a lister of its files (tree), a writer that leaves no room on a volume
// (fill), and a caller that proves what a pod cannot reach (dial).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "imageserver:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("choosing what to do: say serve, verify, tree, fill or dial")
	}
	flags := flag.NewFlagSet("imageserver "+args[0], flag.ContinueOnError)
	switch args[0] {
	case "serve":
		plain := flags.String("http", ":8080", "address for HTTP")
		secure := flags.String("https", "", "address for HTTPS; empty for none")
		cert := flags.String("tls-dir", "", "folder with tls.crt and tls.key for HTTPS")
		dir := flags.String("dir", ".", "folder for uploaded blobs")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return serve(ctx, *dir, *plain, *secure, *cert)
	case "verify":
		path := flags.String("path", "", "block device, or folder of a Filesystem volume")
		size := flags.Int64("size", 0, "size of the disk in bytes")
		report := flags.String("report", "/dev/termination-log", "file to write the report to, as JSON")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return writeReport(*path, *size, *report)
	case "tree":
		report := flags.String("report", "/dev/termination-log", "file to write the list to, as JSON")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return writeTree(flags.Arg(0), *report)
	case "fill":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return fill(flags.Arg(0))
	case "dial":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return dial(ctx, flags.Arg(0))
	default:
		return fmt.Errorf("choosing what to do: %q is none of serve, verify, tree, fill, dial", args[0])
	}
}
