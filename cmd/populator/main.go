// Command populator fills claims that refer to a VMDiskImage, a DataImportCron or a DataSource, and makes those
// that DataVolumes ask for.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/gild-project/gild/pkg/populator"
)

func main() {
	var options populator.Options
	options.BindFlags(pflag.CommandLine)
	logging := flag.NewFlagSet("logging", flag.ContinueOnError)
	klog.InitFlags(logging)
	pflag.CommandLine.AddGoFlag(logging.Lookup("v"))
	pflag.Parse()
	// lib-volume-populator logs with klog: one log, one format.
	ctrl.SetLogger(klog.Background())
	if err := options.Validate(); err != nil {
		fmt.Fprintln(os.Stderr, "populator:", err)
		os.Exit(2)
	}
	if err := populator.Run(ctrl.SetupSignalHandler(), options, serveDataVolumes); err != nil {
		klog.ErrorS(err, "The populator ended")
		klog.Flush()
		os.Exit(1)
	}
}
