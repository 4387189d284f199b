//go:build e2e

package e2e

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/stretchr/testify/require"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

const (
	// seedNamespace is where the seeds' DataImportCrons are.
	seedNamespace = "golden-images"
	// cronHTTPFile and cronRegistryFile are the first two manifests of DataImportCrons, as they were written.
	cronHTTPFile     = "../../pkg/cdi/testdata/seed-http.yaml"
	cronRegistryFile = "../../pkg/cdi/testdata/seed-registry.yaml"
)

// seedCron reads one of them.
func seedCron(file string) (*cdiv1.DataImportCron, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	cron := &cdiv1.DataImportCron{}
	return cron, yaml.UnmarshalStrict(text, cron)
}

// cronSeedImage is the image of the second one.
func cronSeedImage() (name.Reference, error) {
	cron, err := seedCron(cronRegistryFile)
	if err != nil {
		return nil, err
	}
	return name.ParseReference((*cron.Spec.Template.Spec.Source.Registry.URL)[len("docker://"):])
}

// TestSeedCrons applies the first two manifests of DataImportCrons as they were written, one after the other. They share
// a name, so the second one is an edit, from a file to an image. The name server sends their hosts to our own servers,
// and the node's container runtime does the same.
func TestSeedCrons(t *testing.T) {
	t.Parallel()
	f := startIn(t, seedNamespace)
	f.NeedsTestCluster("a name server and a node that ask our own servers")
	f.CopyClass("hostpath-provisioner", func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	})
	cron, err := seedCron(cronHTTPFile)
	require.NoError(t, err)
	file, err := url.Parse(cron.Spec.Template.Spec.Source.HTTP.URL)
	require.NoError(t, err)
	iso := f.Revision(0).disk
	iso.ISO = true
	content := f.convert(iso, "raw")
	_, address := f.Nginx(f.namespace + "-nginx")
	f.nameHost(file.Hostname(), address)
	f.PutOnNginx(strings.TrimPrefix(file.Path, "/"), content)

	f.Kubectl("apply", "--filename", cronHTTPFile)
	f.WaitCron(cron.Name, "no digest", polledWithin, func(cron *cdiv1.DataImportCron) bool {
		return cronCondition(cron, cdiv1.DataImportCronUpToDate).Reason == "NoDigest"
	})
	f.AnnotateCron(cron.Name, golden.AnnotationDesiredDigest, digestOf(content))
	a := f.WaitRolled(cron.Name)
	f.RequireGolden(a, cron.Name)
	f.RequireDisk(a, iso)

	image, err := cronSeedImage()
	require.NoError(t, err)
	second, host := f.Revision(1).disk, image.Context().RegistryStr()
	p := f.PushTo(image.Context().RepositoryStr(), image.Identifier(), f.containerDisk(gzipTar, "disk.qcow2", f.convert(second, "qcow2")))
	f.nameHost(host, f.registryAddress(f.namespace+"-seed", tlsPort))
	f.nodePullsFrom(host, f.forwardToRegistry(plainPort))
	f.ConfigMap("some-certs", map[string]string{"ca.crt": f.WebCA()})
	f.Kubectl("apply", "--filename", cronRegistryFile)
	// The other class is an edit, too: what was imported may be copied to it before the image is found.
	f.WaitCron(cron.Name, "the image found", polledWithin, func(cron *cdiv1.DataImportCron) bool {
		return cron.Annotations[golden.AnnotationDesiredDigest] == p.digest
	})
	copied := claim{name: golden.SecondClaimName(cron.Spec.ManagedDataSource, digestOf(content), "hostpath-provisioner")}
	b := f.WaitRolled(cron.Name, a, copied)
	f.RequireGolden(b, cron.Name)
	f.RequireDisk(b, second)
	require.Equal(t, "hostpath-provisioner", *f.PVC(b).Spec.StorageClassName)
	require.Equal(t, v1alpha1.PullMethodNode, f.Import(b).Spec.Source.Registry.PullMethod)
	require.Contains(t, f.GoldenClaims(cron.Name), a.name)
}

// nodePullsFrom has the node's container runtime ask an address of this machine for a registry, until the test ends.
func (f *fixture) nodePullsFrom(registry, address string) {
	f.Helper()
	f.NeedsTestCluster("a container runtime whose settings are on this machine")
	folder := filepath.Join(filepath.Dir(f.kubeconfig), "registries", registry)
	require.NoError(f, os.MkdirAll(folder, 0o755))
	f.Cleanup(func() { require.NoError(f, os.RemoveAll(folder)) })
	text := fmt.Sprintf("[host.\"http://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n", address)
	require.NoError(f, os.WriteFile(filepath.Join(folder, "hosts.toml"), []byte(text), 0o644))
}
