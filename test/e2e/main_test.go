//go:build e2e

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// parallelTests is how many tests run at once: they mostly wait.
const parallelTests = "14"

// removeWithin bounds the cleaning up after the tests.
const removeWithin = 4 * time.Minute

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// run installs Gild, runs the tests and removes all that was made.
func run(m *testing.M) (code int, err error) {
	flag.Parse()
	// What the API server warns of is worth reading.
	log.SetLogger(klog.Background())
	if err := flag.Set("test.parallel", parallelTests); err != nil {
		return 1, fmt.Errorf("setting how many tests run at once: %w", err)
	}
	settings, err := readSettings()
	if err != nil {
		return 1, err
	}
	settings.run = rand.String(5)
	c, err := connect(settings)
	if err != nil {
		return 1, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := c.refuseForeign(ctx); err != nil {
		return 1, err
	}
	if err := c.prepare(); err != nil {
		return 1, err
	}
	recording := make(chan struct{})
	recordCtx, stopRecording := context.WithCancel(ctx)
	go func() {
		defer close(recording)
		c.record(recordCtx)
	}()
	if err := c.install(ctx); err != nil {
		code = 1
	} else {
		code = runUntil(ctx, m)
	}
	if code != 0 && c.keep {
		stopRecording()
		<-recording
		return code, errors.Join(err, fmt.Errorf("kept on %s's cluster, see %s", c.kubeconfig, c.settings.record))
	}
	removeCtx, cancel := context.WithTimeout(context.Background(), removeWithin)
	defer cancel()
	err = errors.Join(err, c.remove(removeCtx))
	stopRecording()
	<-recording
	err = errors.Join(err, c.findCanaries())
	if code != 0 || err != nil {
		return max(code, 1), errors.Join(err, fmt.Errorf("what was seen is in %s", c.settings.record))
	}
	return 0, os.RemoveAll(c.settings.record)
}

// prepare makes the folder of the run's records, and tells the tests of it and of the run.
func (c *cluster) prepare() error {
	var err error
	if c.settings.record == "" {
		c.settings.record, err = os.MkdirTemp("", "gild-e2e-")
	} else {
		err = os.MkdirAll(c.settings.record, 0o750)
	}
	if err != nil {
		return fmt.Errorf("making the folder of the records: %w", err)
	}
	return errors.Join(os.Setenv(runVariable, c.run), os.Setenv(recordVariable, c.settings.record))
}

// runUntil runs the tests, or stops waiting for them when ctx ends: what they made is
// removed then too.
func runUntil(ctx context.Context, m *testing.M) int {
	code := make(chan int, 1)
	go func() { code <- m.Run() }()
	select {
	case code := <-code:
		return code
	case <-ctx.Done():
		return 130
	}
}
