// Command copies measures how long many claims of one golden image take, on a real cluster with
// Gild installed: each strategy, and lib-volume-populator with no work at all beside it.
// docs/strategies.md explains the table it prints.
//
//	make bench-copies                                             1, 10 and 50 claims, each strategy
//	make bench-copies COPIESFLAGS='-claims 1 -ways Snapshot'      a quick look
//
// It serves the image itself, so the cluster must reach this machine. The report is written to
// $GILD_CACHE/copies as report.txt and report.json. It fails when a limit is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/gild-project/gild/test/reports"
)

// benchmark is one run.
type benchmark struct {
	dir    string
	counts []int
	ways   []way
	// patience is how long any one thing may take.
	patience time.Duration

	cluster *cluster
	image   *image
	library *library
	report  report
}

func main() {
	ctrl.SetLogger(klog.Background())
	if kubeconfig := os.Getenv(libraryVariable); kubeconfig != "" {
		runLibrary(kubeconfig)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "copies:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	b := &benchmark{patience: 10 * time.Minute}
	counts := flag.String("claims", "1,10,50", "how many claims are made at once, one measurement each")
	names := flag.String("ways", "Snapshot,Copy,Import,"+libraryWay, "what is measured")
	data := flag.Int64("data", 500, "MB of data in the golden image")
	flag.Parse()
	err := b.choose(*names, *counts)
	if err != nil {
		return fmt.Errorf("reading the flags: %w", err)
	}
	b.report = report{Machine: reports.Machine(), Shared: os.Getenv("GILD_CLUSTER_REFLINK") == "1", Data: *data * mb}
	if err = b.prepare(ctx, *data*mb); err == nil {
		err = b.measureAll(ctx)
	}
	err = errors.Join(err, b.close(context.WithoutCancel(ctx)))
	if len(b.report.Measured) == 0 {
		return err
	}
	// What was measured before a failure is worth its time.
	b.report.judge()
	return errors.Join(err, reports.Write(os.Stdout, b.dir, b.report.table(), &b.report), b.report.missed())
}

// choose reads what is to be measured.
func (b *benchmark) choose(names, counts string) error {
	for name := range strings.SplitSeq(names, ",") {
		w, err := wayOf(name)
		if err != nil {
			return err
		}
		b.ways = append(b.ways, w)
	}
	for text := range strings.SplitSeq(counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no number of claims", text)
		}
		b.counts = append(b.counts, n)
	}
	return nil
}

// prepare connects to the cluster and makes all that is there before a claim is.
func (b *benchmark) prepare(ctx context.Context, data int64) error {
	var err error
	if b.dir, err = reports.Folder("copies"); err != nil {
		return err
	}
	if b.cluster, err = connect(ctx); err != nil {
		return err
	}
	if b.image, err = serveImage(ctx, b.cluster.address, data); err != nil {
		return err
	}
	if err := b.cluster.install(ctx); err != nil {
		return err
	}
	b.library, err = startLibrary(ctx, b.cluster, b.dir)
	return err
}

func (b *benchmark) measureAll(ctx context.Context) error {
	for _, w := range b.ways {
		if err := b.begin(ctx, w); err != nil {
			return fmt.Errorf("preparing %s: %w", w.name, err)
		}
		for _, n := range b.counts {
			b.say("%s, claims: %d", w.name, n)
			if err := b.measure(ctx, w, n); err != nil {
				return fmt.Errorf("measuring %s with %d claims: %w", w.name, n, err)
			}
		}
		if err := b.end(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// close removes what was made and stops what was started.
func (b *benchmark) close(ctx context.Context) error {
	var failures []error
	if b.cluster != nil {
		failures = append(failures, b.cluster.remove(ctx))
	}
	if b.library != nil {
		failures = append(failures, b.library.stop())
	}
	if b.image != nil {
		failures = append(failures, b.image.stop())
	}
	return errors.Join(failures...)
}

func (b *benchmark) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}
