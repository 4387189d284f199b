//go:build e2e

package e2e

import (
	"cmp"
	"hash/fnv"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/test/imageserver/disk"
	"github.com/gild-project/gild/test/imageserver/server"
)

const (
	// wildFolder has manifests as KubeVirt's users find them: of platforms, guides and machines.
	wildFolder = "testdata/wild"
	// wildImages and wildMachines are their namespaces, wildDomain has the hosts of their images.
	wildImages, wildMachines = "kubevirt-os-images", "vms"
	wildDomain               = "example.org"
	// machineKindName is the name of KubeVirt's kind of machines, machineKind the kind as far as a manifest is kept.
	machineKindName = "virtualmachines.kubevirt.io"
)

const machineKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: ` + machineKindName + `
spec:
  group: kubevirt.io
  names: {kind: VirtualMachine, plural: virtualmachines, singular: virtualmachine, shortNames: [vm, vms]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// wild are the manifests of the folder.
type wild struct {
	crons    map[string]*cdiv1.DataImportCron
	volumes  map[string]*cdiv1.DataVolume
	sources  map[string]*cdiv1.DataSource
	machines map[string]*virtv1.VirtualMachine
}

// readWild reads them as KubeVirt's own types have them.
func readWild(t *testing.T) *wild {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(wildFolder, "*.yaml"))
	require.NoError(t, err)
	w := &wild{map[string]*cdiv1.DataImportCron{}, map[string]*cdiv1.DataVolume{}, map[string]*cdiv1.DataSource{}, map[string]*virtv1.VirtualMachine{}}
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for text := range strings.SplitSeq(string(content), "\n---\n") {
			var kind metav1.TypeMeta
			require.NoError(t, yaml.Unmarshal([]byte(text), &kind))
			switch kind.Kind {
			case golden.CronKind:
				keep(t, text, w.crons)
			case "DataVolume":
				keep(t, text, w.volumes)
			case golden.DataSourceKind:
				keep(t, text, w.sources)
			case "VirtualMachine":
				keep(t, text, w.machines)
			}
		}
	}
	return w
}

// keep reads one into its kind's map.
func keep[T any, P interface {
	*T
	client.Object
}](t *testing.T, text string, into map[string]P) {
	t.Helper()
	object := P(new(T))
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), object))
	require.NotContains(t, into, object.GetName())
	into[object.GetName()] = object
}

// specs are all that say where a disk comes from.
func (w *wild) specs() []*cdiv1.DataVolumeSpec {
	var specs []*cdiv1.DataVolumeSpec
	for _, cron := range w.crons {
		specs = append(specs, &cron.Spec.Template.Spec)
	}
	for _, volume := range w.volumes {
		specs = append(specs, &volume.Spec)
	}
	for _, machine := range w.machines {
		for i := range machine.Spec.DataVolumeTemplates {
			specs = append(specs, &machine.Spec.DataVolumeTemplates[i].Spec)
		}
	}
	return specs
}

// fetched is where a disk is fetched from; empty when it is not.
func fetched(spec *cdiv1.DataVolumeSpec) string {
	switch source := spec.Source; {
	case source != nil && source.HTTP != nil:
		return source.HTTP.URL
	case source != nil && source.Registry != nil:
		return *source.Registry.URL
	}
	return ""
}

// diskAt is the disk at a URL: each has its own.
func diskAt(where string) disk.Disk {
	hash := fnv.New64()
	_, _ = hash.Write([]byte(where))
	return disk.Disk{Seed: hash.Sum64(), Size: cronDiskSize}
}

// disk is the disk that a spec asks for, unless that is blank.
func (w *wild) disk(t *testing.T, spec *cdiv1.DataVolumeSpec) disk.Disk {
	t.Helper()
	if from := fetched(spec); from != "" {
		return diskAt(from)
	}
	if spec.Source != nil {
		return w.disk(t, &w.volumes[spec.Source.PVC.Name].Spec)
	}
	name := spec.SourceRef.Name
	for w.sources[name] != nil {
		source := w.sources[name].Spec.Source
		if source.PVC != nil {
			return w.disk(t, &w.volumes[source.PVC.Name].Spec)
		}
		name = source.DataSource.Name
	}
	for _, cron := range w.crons {
		if cron.Spec.ManagedDataSource == name {
			return w.disk(t, &cron.Spec.Template.Spec)
		}
	}
	require.Fail(t, "nothing makes DataSource "+name)
	return disk.Disk{}
}

// publish serves the disk of a URL there, in the format that its name tells.
func (f *fixture) publish(where string) {
	f.Helper()
	to, err := url.Parse(where)
	require.NoError(f, err)
	d := diskAt(where)
	if to.Scheme == "docker" {
		repository, tag, _ := strings.Cut(strings.TrimPrefix(to.Path, "/"), ":")
		f.PushTo(repository, tag, f.containerDisk(gzipTar, "disk.qcow2", f.convert(d, "qcow2")))
		return
	}
	var content []byte
	switch name := path.Base(to.Path); {
	case strings.HasSuffix(name, ".raw.xz"):
		content = f.pack("xz", f.convert(d, "raw"))
	case strings.HasSuffix(name, ".qcow2.gz"):
		content = f.pack("gzip", f.convert(d, "qcow2"))
	case strings.HasSuffix(name, ".vhdx"):
		content = f.convert(d, "vhdx")
	default:
		content = f.convert(d, "qcow2")
	}
	file := &served{f: f, name: strings.TrimPrefix(to.Path, "/files/")}
	file.Publish(server.File{Blob: f.Upload("disk", content)})
}

// webAddress is the cluster IP of one more host name of the image server, at the ports that a URL need not say.
func (f *fixture) webAddress(name string) string {
	f.Helper()
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.webNamespace(), Name: name, Labels: map[string]string{runLabel: f.run}},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": webName}, Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromInt32(httpPort)}, {Name: "https", Port: 443, TargetPort: intstr.FromInt32(httpsPort)},
		}},
	}
	require.NoError(f, f.Create(f.ctx, service))
	return service.Spec.ClusterIP
}

// RequireCron waits until a DataImportCron has its golden claim, and checks every byte of it, and that its labels have come along:
// KubeVirt reads instance types from them.
func (f *fixture) RequireCron(w *wild, cron *cdiv1.DataImportCron) {
	f.Helper()
	c := f.WaitRolled(cron.Name)
	f.RequireGolden(c, cron.Name)
	f.RequireDisk(c, w.disk(f.T, &cron.Spec.Template.Spec))
	for key, value := range cron.Labels {
		require.Equal(f, value, f.PVC(c).Labels[key])
		require.Equal(f, value, f.ReadDataSource(cron.Spec.ManagedDataSource).Labels[key])
	}
}

// RequireFilled waits until a DataVolume has the disk that its spec asks for, and checks every byte of it.
func (f *fixture) RequireFilled(w *wild, name string, spec *cdiv1.DataVolumeSpec) {
	f.Helper()
	switch {
	case spec.Source == nil || spec.Source.Blank == nil:
		f.RequireVolume(name, w.disk(f.T, spec))
	case spec.Storage != nil:
		f.RequireBlank(name, spec.Storage.Resources.Requests.Storage().Value())
	default:
		f.RequireBlank(name, spec.PVC.Resources.Requests.Storage().Value())
	}
}

// StartMachine makes the DataVolumes of a machine as KubeVirt's virt-controller does: they are the machine's, may take a claim that is
// there, and what a DataSource names is written in its place, unless that is another DataSource.
func (f *fixture) StartMachine(name string) {
	f.Helper()
	machine := &virtv1.VirtualMachine{}
	require.NoError(f, f.Get(f.ctx, f.key(name), machine))
	for _, template := range machine.Spec.DataVolumeTemplates {
		volume := &cdiv1.DataVolume{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
		volume.Namespace = machine.Namespace
		volume.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(machine, virtv1.VirtualMachineGroupVersionKind)}
		metav1.SetMetaDataLabel(&volume.ObjectMeta, virtv1.CreatedByLabel, string(machine.UID))
		metav1.SetMetaDataAnnotation(&volume.ObjectMeta, "cdi.kubevirt.io/allowClaimAdoption", "true")
		volume.Spec.PriorityClassName = cmp.Or(volume.Spec.PriorityClassName, machine.Spec.Template.Spec.PriorityClassName)
		if ref := volume.Spec.SourceRef; ref != nil {
			source := &cdiv1.DataSource{}
			require.NoError(f, f.Get(f.ctx, client.ObjectKey{Namespace: ptr.Deref(ref.Namespace, machine.Namespace), Name: ref.Name}, source))
			if leads := source.Spec.Source; leads.PVC != nil || leads.Snapshot != nil {
				volume.Spec.SourceRef, volume.Spec.Source = nil, &cdiv1.DataVolumeSource{PVC: leads.PVC, Snapshot: leads.Snapshot}
			}
		}
		require.NoError(f, f.Create(f.ctx, volume))
	}
}

// TestManifestsOfTheWild applies what KubeVirt's users have, changed in nothing. Each DataImportCron and DataVolume ends in a bound claim
// with the bytes of its source, and so do the DataVolumes of machines.
func TestManifestsOfTheWild(t *testing.T) {
	t.Parallel()
	w := readWild(t)
	images, machines := startIn(t, wildImages), startIn(t, wildMachines)
	images.NeedsTestCluster("a name server that answers for any host")
	images.define(machineKind, machineKindName)
	for _, f := range []*fixture{images, machines} {
		f.ConfigMap("example-ca", map[string]string{"ca.crt": f.WebCA()})
	}
	images.nameHost("images."+wildDomain, images.webAddress("wild-images"))
	images.nameHost("registry."+wildDomain, images.registryAddress("wild-registry", tlsPort))
	urls := map[string]bool{"": true}
	for _, spec := range w.specs() {
		if from := fetched(spec); !urls[from] {
			urls[from] = true
			images.publish(from)
		}
	}

	// A DataVolume may come before what it copies.
	machines.Kubectl("apply", "--filename", filepath.Join(wildFolder, "datavolumes.yaml"))
	images.Kubectl("apply", "--filename", filepath.Join(wildFolder, "golden-images.yaml"))
	t.Run("images and volumes", func(t *testing.T) {
		for name, cron := range w.crons {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				images.within(t).RequireCron(w, cron)
			})
		}
		for name, volume := range w.volumes {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := machines.within(t)
				f.namespace = volume.Namespace
				f.RequireFilled(w, name, &volume.Spec)
			})
		}
	})
	machines.Kubectl("apply", "--filename", filepath.Join(wildFolder, "virtualmachines.yaml"))
	for name, machine := range w.machines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := machines.within(t)
			f.StartMachine(name)
			for _, template := range machine.Spec.DataVolumeTemplates {
				f.RequireFilled(w, template.Name, &template.Spec)
			}
		})
	}
}
