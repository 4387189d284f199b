// Command bench measures the importer beside what people use today, and beside the floor that
// the machine sets. docs/performance.md explains the table it prints.
//
//	go run ./test/bench           the whole table: more than an hour
//	BENCH=quick go run ./test/bench    a tenth of it
//
// It needs root for loop devices. The disk and its forms are made once and kept in
// $GILD_CACHE/bench, where report.txt, report.json and report.svg are written too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/gild-project/gild/test/reports"
)

// hashFlag makes this program hash a file and exit: a stage of the floor.
const hashFlag = "hash"

func main() {
	only := flag.String("only", "", "run the cells whose name matches this regular expression")
	hash := flag.String(hashFlag, "", "hash this file and exit")
	rounds := flag.Int("rounds", 0, "number of rounds; not set: 5, or 1 with BENCH=quick")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *hash != "" {
		err = hashFile(*hash)
	} else {
		err = run(ctx, *only, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func run(ctx context.Context, only string, rounds int) error {
	if os.Geteuid() != 0 {
		return errors.New("measuring needs root for loop devices")
	}
	pattern, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("reading -only: %w", err)
	}
	dir, err := reports.Folder("bench")
	if err != nil {
		return err
	}
	size := full()
	if os.Getenv("BENCH") == "quick" {
		size = quick()
	}
	if rounds > 0 {
		size.rounds, size.limitedRounds = rounds, rounds
	}
	b := &bench{dir: dir, size: size}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer b.close()
	// What was measured before a failure, or before Ctrl-C, is worth its time.
	r, err := b.measure(ctx, pattern)
	return errors.Join(err, reports.Write(os.Stdout, dir, r.table(), r), r.draw(dir))
}
