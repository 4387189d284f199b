// Command scale measures the poller with many DataImportCrons: a real API server, web servers on
// a hundred addresses of the loopback, and the poller as a process of its own. docs/scale.md
// explains the table it prints.
//
//	go run ./test/scale                              10,000 crons
//	go run ./test/scale -crons 500 -quiet 3m         a quick look
//
// It needs no root. The report is written to $GILD_CACHE/scale as report.txt and report.json.
// It fails when a limit is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/gild-project/gild/test/reports"
)

// scale is one run of the benchmark.
type scale struct {
	dir     string
	crons   int
	perHost int
	quiet   time.Duration
	// patience is how long any one thing may take.
	patience time.Duration

	api    *api
	hosts  *hosts
	binary string
	poller *program
	report report
}

func main() {
	ctrl.SetLogger(klog.Background())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s := &scale{patience: 30 * time.Minute}
	hosts := flag.Int("hosts", 100, "number of hosts that serve the images")
	flag.IntVar(&s.crons, "crons", 10000, "number of DataImportCrons")
	flag.IntVar(&s.perHost, "per-host", 4, "how many polls of one host the poller may make at once")
	flag.DurationVar(&s.quiet, "quiet", 11*time.Minute, "how long to watch crons that are due each minute and do not change")
	flag.Parse()
	if s.crons < 1 || *hosts < 1 || *hosts > perNetwork*perNetwork || s.quiet < time.Minute {
		return errors.New("reading the flags: at least one cron, 1 to 62500 hosts, and a minute of -quiet")
	}
	s.report = report{Machine: reports.Machine(), Crons: s.crons, Hosts: *hosts, PerHost: s.perHost}
	err := s.prepare(ctx, *hosts)
	if err == nil {
		err = s.measure(ctx)
	}
	s.close()
	if len(s.report.Phases) == 0 {
		return err
	}
	// What was measured before a failure, or before Ctrl-C, is worth its time.
	return errors.Join(err, reports.Write(os.Stdout, s.dir, s.report.table(), &s.report), s.report.missed())
}

// prepare builds the poller and starts all that it talks to.
func (s *scale) prepare(ctx context.Context, hosts int) error {
	var err error
	if s.dir, err = reports.Folder("scale"); err != nil {
		return err
	}
	if s.binary, err = build(ctx, s.dir, "./cmd/poller"); err != nil {
		return err
	}
	if s.hosts, err = startHosts(ctx, hosts); err != nil {
		return err
	}
	s.api, err = startAPI(ctx, s.dir)
	return err
}

// measure runs the phases.
func (s *scale) measure(ctx context.Context) error {
	for _, phase := range []func(context.Context) error{s.fromNothing, s.dueAtOnce, s.unchanged} {
		if err := phase(ctx); err != nil {
			return err
		}
	}
	return nil
}

// startPoller starts the program that is measured, as its Deployment does.
func (s *scale) startPoller(ctx context.Context) error {
	command := exec.Command(s.binary, "--kubeconfig="+s.api.poller, "--namespace="+systemNamespace,
		fmt.Sprintf("--max-polls-per-host=%d", s.perHost), "--metrics-address=0", "--health-address=127.0.0.1:0")
	var err error
	s.poller, err = startProgram(ctx, s.path("poller.log"), command)
	return err
}

func (s *scale) stopPoller() {
	if s.poller == nil {
		return
	}
	if err := s.poller.stop(); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
	}
}

// close stops all that runs.
func (s *scale) close() {
	s.stopPoller()
	if s.api != nil {
		if err := s.api.process.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "scale:", err)
		}
	}
	if s.hosts != nil {
		if err := s.hosts.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "scale: stopping the hosts:", err)
		}
	}
}
