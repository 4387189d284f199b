// Package main builds, starts and stops a real one-node Kubernetes for Gild's
// tests: every program comes from Go modules or from Debian, none from an image.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

// run finds the sub-command and calls it.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name != args[0] {
				continue
			}
			if len(args)-1 != c.arguments {
				return fmt.Errorf("usage: cluster %s", c.usage)
			}
			f, err := findFolders(ctx)
			if err != nil {
				return err
			}
			return c.run(ctx, newCluster(f, os.Stdout), args[1:])
		}
	}
	usage := "usage: cluster COMMAND\n"
	for _, c := range commands() {
		usage += fmt.Sprintf("  %-28s %s\n", c.usage, c.help)
	}
	return fmt.Errorf("%s", usage)
}
