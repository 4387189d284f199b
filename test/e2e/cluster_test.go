//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// pollInterval is how often something that is waited for is looked at.
const pollInterval = 500 * time.Millisecond

// cluster is the cluster under test.
type cluster struct {
	settings
	client.WithWatch
	// typed has what the generic client lacks: logs, the proxy to pods, evictions.
	typed kubernetes.Interface
}

func connect(s settings) (*cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading KUBECONFIG: %w", err)
	}
	config.QPS = -1 // the API server's own fairness is enough
	scheme := runtime.NewScheme()
	kinds := []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme, cdiv1.AddToScheme, snapshotv1.AddToScheme, virtv1.AddToScheme}
	for _, add := range kinds {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("registering kinds: %w", err)
		}
	}
	generic, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	typed, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return &cluster{settings: s, WithWatch: generic, typed: typed}, nil
}

// kubectl runs kubectl and returns its output. Its standard error is part of the error.
func (c *cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	return output(exec.CommandContext(ctx, "kubectl", append([]string{"--kubeconfig", c.kubeconfig}, args...)...))
}

// output runs command and returns its standard output. Its standard error is part of the error.
func output(command *exec.Cmd) (string, error) {
	var stderr strings.Builder
	command.Stderr = &stderr
	stdout, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("running %s: %w: %s", strings.Join(command.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(stdout), nil
}

// eventually looks until done returns true, an error, or within is over. The error then says
// what state, which done returns too, was last seen.
func eventually(ctx context.Context, within time.Duration, done func(context.Context) (ok bool, state string, err error)) error {
	var last string
	err := wait.PollUntilContextTimeout(ctx, pollInterval, within, true, func(ctx context.Context) (bool, error) {
		ok, state, err := done(ctx)
		if state != "" {
			last = state
		}
		return ok, err
	})
	if err != nil {
		return fmt.Errorf("waiting up to %s: %w; last seen: %s", within, err, last)
	}
	return nil
}
