//go:build e2e

package e2e

import (
	"cmp"
	"errors"
	"os"
)

// Variables by which TestMain tells the tests what it has set up: Go gives a test nothing
// else, and the package keeps no state.
const (
	runVariable    = "GILD_E2E_RUN"
	recordVariable = "GILD_E2E_RECORD"
)

// systemNamespace is where Gild runs its imports.
const systemNamespace = "gild-system"

// runLabel marks everything that a test run makes; its value is the run.
const runLabel = "gild.dev/e2e"

// settings are what the environment says about the cluster under test.
type settings struct {
	kubeconfig string
	// images is the registry and folder that the nodes pull from, tag the images' tag.
	images, tag string
	// testCluster says that the cluster is the one of test/cluster.
	testCluster bool
	// class is the StorageClass of the claims; empty for the default one.
	class string
	// keep leaves what failed tests made.
	keep bool
	// run names this run, record is the folder of its records.
	run, record string
}

func readSettings() (settings, error) {
	s := settings{
		kubeconfig:  os.Getenv("KUBECONFIG"),
		images:      cmp.Or(os.Getenv("GILD_IMAGES"), "127.0.0.1:5000/gild"),
		tag:         cmp.Or(os.Getenv("GILD_TAG"), "dev"),
		testCluster: os.Getenv("GILD_TEST_CLUSTER") == "1",
		class:       os.Getenv("STORAGE_CLASS"),
		keep:        os.Getenv("GILD_E2E_KEEP") == "1",
		run:         os.Getenv(runVariable),
		record:      os.Getenv(recordVariable),
	}
	if s.kubeconfig == "" {
		return s, errors.New("reading KUBECONFIG: it is empty; name the kubeconfig of the cluster to test on, or run make test-e2e")
	}
	return s, nil
}

// image is the full name of one of the images under test.
func (s settings) image(name string) string {
	return s.images + "/" + name + ":" + s.tag
}

// webNamespace holds the image server.
func (s settings) webNamespace() string { return "gild-e2e-" + s.run + "-web" }
