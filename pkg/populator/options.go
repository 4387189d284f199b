package populator

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Options are the settings of the populator.
type Options struct {
	// Kubeconfig is the path of a kubeconfig; empty inside a cluster.
	Kubeconfig string
	// Namespace holds PVC', Jobs and copied Secrets. Claims in it are never filled.
	Namespace string
	// ImporterImage is the container image of the importer.
	ImporterImage string
	// JobTemplate is the path of a PodTemplateSpec that is merged into importer pods; empty for none.
	JobTemplate string
	// MaxImports is how many imports run at once, in the whole cluster.
	MaxImports int
	// MaxImportsPerHost is how many of them read from one host.
	MaxImportsPerHost int
	// Copy lets a disk be read over the network from a volume that has it, where no snapshot can be restored.
	Copy bool
	// LeaderElect lets several populators stand by for one another.
	LeaderElect bool
	// MetricsAddress is where metrics are served; "0" serves none.
	MetricsAddress string
	// HealthAddress is where /healthz and /readyz are served.
	HealthAddress string
}

// BindFlags makes flags of the options, with their defaults.
func (o *Options) BindFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "path of a kubeconfig (default: the cluster this runs in)")
	fs.StringVar(&o.Namespace, "namespace", "gild-system", "namespace of importer Jobs and of the volumes being filled")
	fs.StringVar(&o.ImporterImage, "importer-image", "", "container image of the importer")
	fs.StringVar(&o.JobTemplate, "job-template", "", "file with a PodTemplateSpec merged into importer pods: placement, tolerations, proxies, resources, pull secrets")
	fs.IntVar(&o.MaxImports, "max-imports", 10, "imports that run at once; the rest wait as Queued")
	fs.IntVar(&o.MaxImportsPerHost, "max-imports-per-host", 4, "imports that read from one host at once; the rest wait as Queued")
	fs.BoolVar(&o.Copy, "copy", true, "copy disks from volumes that have them, by an exporter pod in the volume's namespace (deploy/copy-rbac.yaml)")
	fs.BoolVar(&o.LeaderElect, "leader-elect", true, "elect a leader, so that several replicas can stand by")
	fs.StringVar(&o.MetricsAddress, "metrics-address", ":8080", "address of the metrics endpoint; 0 turns it off")
	fs.StringVar(&o.HealthAddress, "health-address", ":8081", "address of /healthz and /readyz")
}

// Validate returns what is wrong with the options, nil when nothing is.
func (o *Options) Validate() error {
	switch {
	case o.Namespace == "":
		return errors.New("--namespace is empty: name the namespace for importer Jobs")
	case o.ImporterImage == "":
		return errors.New("--importer-image is empty: name the container image of the importer")
	case o.MaxImports < 1:
		return fmt.Errorf("--max-imports is %d: at least one import must be able to run", o.MaxImports)
	case o.MaxImportsPerHost < 1:
		return fmt.Errorf("--max-imports-per-host is %d: at least one import must be able to run", o.MaxImportsPerHost)
	}
	return nil
}

// readJobTemplate reads a PodTemplateSpec in YAML or JSON and returns it as JSON. Fields it does
// not know are an error: a misspelt toleration must not be dropped in silence.
func readJobTemplate(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading --job-template: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, &corev1.PodTemplateSpec{}); err != nil {
		return nil, fmt.Errorf("reading --job-template %s: %w", path, err)
	}
	return yaml.YAMLToJSON(data)
}
