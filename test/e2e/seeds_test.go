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
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

const (
	// seedNamespace and streamNamespace are where the seeds' DataImportCrons are.
	seedNamespace   = "golden-images"
	streamNamespace = "openshift-virtualization-os-images"
	// cdiSeeds and gildSeeds begin the files of the manifests that this project began with, as they were written.
	cdiSeeds  = "../../pkg/cdi/testdata/seed"
	gildSeeds = "../../pkg/apis/virtualization/v1alpha1/testdata/seed"
)

// TestSeeds applies all of them and reads back every disk that they lead to. The name server sends their hosts to our own
// servers, and the node's container runtime does the same. Importers trust our registry as an operator sets it up.
func TestSeeds(t *testing.T) {
	f := start(t)
	f.NeedsTestCluster("a name server and a node that ask our own servers")
	f.setRegistries(map[string]string{})
	f.define(streamKind, streamKindName)
	f.CopyClass("hostpath-provisioner", func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	})
	for name, seeds := range map[string]func(*testing.T){
		"a claim of a VMDiskImage": seedClaim, "crons and a DataVolume": seedCrons, "a cron of an image stream": seedStream,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seeds(t)
		})
	}
}

// seedClaim makes the claim before the VMDiskImage that its annotation names.
func seedClaim(t *testing.T) {
	f := start(t)
	p := f.PushTo("library/ubuntu", "22.04", f.rootfs())
	f.nameHost(seedHost, f.registryAddress(f.namespace+"-seed", tokenPort))
	f.Kubectl("apply", "--filename", gildSeeds+"-claim.yaml")
	c := f.ClaimOf("vm-disk")
	f.WaitEvent(c, "VMDiskImageNotFound", "ubuntu-22.04")
	require.Equal(t, corev1.ClaimPending, f.PVC(c).Status.Phase)

	f.Kubectl("apply", "--filename", gildSeeds+".yaml")
	imp := f.RequireBound(c)
	require.Equal(t, p.digest, imp.Status.Result.Digest)
	require.Equal(t, int64(20<<10)*mib, imp.Status.Result.VirtualSize)
	f.RequireNothingLeft(c)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	f.readQcow2(c, disk)
	f.RequireRootfs(disk)
}

// seedCron reads the one of a source.
func seedCron(source string) (*cdiv1.DataImportCron, error) {
	text, err := os.ReadFile(cdiSeeds + "-" + source + ".yaml")
	if err != nil {
		return nil, err
	}
	cron := &cdiv1.DataImportCron{}
	return cron, yaml.UnmarshalStrict(text, cron)
}

// cronSeedImage is the image of the one in a registry.
func cronSeedImage() (name.Reference, error) {
	cron, err := seedCron("registry")
	if err != nil {
		return nil, err
	}
	return name.ParseReference((*cron.Spec.Template.Spec.Source.Registry.URL)[len("docker://"):])
}

// seedCrons applies two DataImportCrons, one after the other, and then a DataVolume. The crons share a name, so the second one
// is an edit, from a file to an image.
func seedCrons(t *testing.T) {
	f := startIn(t, seedNamespace)
	cron, err := seedCron("http")
	require.NoError(t, err)
	file, err := url.Parse(cron.Spec.Template.Spec.Source.HTTP.URL)
	require.NoError(t, err)
	iso := f.Revision(0).disk
	iso.ISO = true
	content := f.convert(iso, "raw")
	_, address := f.Nginx(f.namespace + "-nginx")
	f.nameHost(file.Hostname(), address)
	f.PutOnNginx(strings.TrimPrefix(file.Path, "/"), content)

	f.Kubectl("apply", "--filename", cdiSeeds+"-http.yaml")
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
	f.Kubectl("apply", "--filename", cdiSeeds+"-registry.yaml")
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

	f.Kubectl("apply", "--filename", cdiSeeds+"-datavolume.yaml")
	f.WaitDataVolume("fedora-ref", "no consumer", inPhase(cdiv1.PendingPopulation))
	c := f.ClaimOf("fedora-ref")
	pod := f.Consume(c, second.Size)
	f.WaitDataVolume("fedora-ref", "Succeeded", inPhase(cdiv1.Succeeded))
	f.RequireReport(c, pod, second, second.Size)
	f.RequireNothingLeft(c)
}

// seedStream follows an image stream, whose image the node pulls.
func seedStream(t *testing.T) {
	f := startIn(t, streamNamespace)
	img := f.Revision(0).disk
	_, image := f.PushForNodes("rhel8", f.containerDisk(gzipTar, "disk.qcow2", f.convert(img, "qcow2")))
	f.apply(fmt.Sprintf(stream, "rhel8-is", "latest", strings.TrimPrefix(image, "docker://")))
	f.Kubectl("apply", "--filename", cdiSeeds+"-imagestream.yaml")
	const cron = "rhel8-image-import-cron"
	c := f.WaitRolled(cron)
	f.RequireGolden(c, cron)
	f.RequireDisk(c, img)
	require.Equal(t, image, f.ReadCron(cron).Annotations[golden.AnnotationImageStreamRef])
	require.Equal(t, "hostpath-provisioner", *f.PVC(c).Spec.StorageClassName)
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
