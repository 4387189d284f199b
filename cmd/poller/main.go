// Command poller keeps golden images fresh: it polls the sources of DataImportCrons, rolls what has
// changed, and keeps DataSources on the newest good one.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	_ "time/tzdata" // schedules name time zones, and the container has none

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// memoryLimit keeps the process below the 256 MiB that its pod may use: its code takes 36 MiB besides.
const memoryLimit = 200 << 20

func main() {
	debug.SetMemoryLimit(memoryLimit)
	var o options
	o.bindFlags(pflag.CommandLine)
	logging := flag.NewFlagSet("logging", flag.ContinueOnError)
	klog.InitFlags(logging)
	pflag.CommandLine.AddGoFlag(logging.Lookup("v"))
	pflag.Parse()
	ctrl.SetLogger(klog.Background())
	if err := o.validate(); err != nil {
		fmt.Fprintln(os.Stderr, "poller:", err)
		os.Exit(2)
	}
	if err := run(ctrl.SetupSignalHandler(), o); err != nil {
		klog.ErrorS(err, "The poller ended")
		klog.Flush()
		os.Exit(1)
	}
}
