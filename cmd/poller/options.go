package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// options are the settings of the poller.
type options struct {
	kubeconfig      string
	namespace       string
	maxPolls        int
	maxPollsPerHost int
	registryConfig  string
	leaderElect     bool
	metricsAddress  string
	healthAddress   string
}

// bindFlags makes flags of the options, with their defaults.
func (o *options) bindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig (default: the cluster this runs in)")
	fs.StringVar(&o.namespace, "namespace", "gild-system", "namespace of the poller itself, for the lease of its leader")
	fs.IntVar(&o.maxPolls, "max-polls", 32, "polls that run at once; the rest wait in line")
	fs.IntVar(&o.maxPollsPerHost, "max-polls-per-host", 4, "polls that ask one host at once; the rest wait in line")
	fs.StringVar(&o.registryConfig, "registry-config", "/etc/containers", "directory with the registries.conf that the importer has, too, if there is one")
	fs.BoolVar(&o.leaderElect, "leader-elect", true, "elect a leader, so that several replicas can stand by")
	fs.StringVar(&o.metricsAddress, "metrics-address", ":8080", "address of the metrics endpoint; 0 turns it off")
	fs.StringVar(&o.healthAddress, "health-address", ":8081", "address of /healthz and /readyz")
}

// validate returns what is wrong with the options, nil when nothing is.
func (o *options) validate() error {
	switch {
	case o.namespace == "":
		return errors.New("--namespace is empty: name the namespace that the poller runs in")
	case o.maxPolls < 1:
		return fmt.Errorf("--max-polls is %d: at least one poll must be able to run", o.maxPolls)
	case o.maxPollsPerHost < 1:
		return fmt.Errorf("--max-polls-per-host is %d: at least one poll must be able to run", o.maxPollsPerHost)
	}
	return nil
}
