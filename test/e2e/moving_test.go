//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/golden"
)

// TestMovesFromCDI makes a cluster as CDI leaves it and follows the page that says how to move: golden claims with their
// bytes, DataSources, DataVolumes, profiles and settings stay as they are, nothing is fetched, and the next revision rolls. It
// has the kinds of the whole cluster to itself.
func TestMovesFromCDI(t *testing.T) {
	f := start(t)
	f.NeedsTestCluster("the kinds of CDI to itself")
	older, newer := f.Revision(0), f.Revision(1)
	file := f.Serve("older", older.file)
	f.VMDiskImage("older", file.URL)
	f.VMDiskImage("newer", f.Serve("newer", newer.file).URL)
	f.ConfigMap("registry-ca", map[string]string{"ca.crt": f.WebCA()})
	index := func(img image) *pushed {
		return f.PushIndex("fedora", map[string]ociImage{
			"amd64": containerOf("amd64", f.layer(gzipTar, diskEntries("disk.qcow2", f.convert(img.disk, "qcow2"))...)),
			"arm64": containerOf("arm64", f.layer(gzipTar, diskEntries("disk.qcow2", f.convert(img.disk, "qcow2"))...)),
		})
	}
	p := index(newer)
	oldDigest := digestOf([]byte("an older index"))
	class := f.Class(storagev1.VolumeBindingImmediate)

	// The disks are as CDI has left them. Gild brings them, and then lets go of them.
	filled := map[string]claim{"old": {}, "current": {}, "machine": {}}
	for name := range filled {
		filled[name] = f.Claim(name, map[bool]string{true: "newer", false: "older"}[name == "current"], ofSize(cronClaimSize))
	}
	for _, c := range filled {
		f.RequireBound(c)
	}
	ofCron := func(used time.Time) func(*corev1.PersistentVolumeClaim) {
		return func(pvc *corev1.PersistentVolumeClaim) {
			pvc.Labels[golden.LabelCron] = "fedora-cron"
			pvc.Annotations[golden.AnnotationLastUseTime] = used.UTC().Format(time.RFC3339Nano)
		}
	}
	old := f.FilledByCDI(golden.ClaimName("fedora", oldDigest), filled["old"], ofCron(time.Now().Add(-48*time.Hour)))
	current := f.FilledByCDI(golden.ClaimName("fedora", p.digest), filled["current"], ofCron(time.Now().Add(-24*time.Hour)))
	machine := f.FilledByCDI("machine-1", filled["machine"], func(*corev1.PersistentVolumeClaim) {})
	unstarted := f.Claim("machine-2", "", func(pvc *corev1.PersistentVolumeClaim) { pvc.Spec.DataSourceRef = ofCDI("machine-2") })

	f.RemoveKinds()
	f.InstallCDI(class)
	labels := map[string]string{golden.LabelCron: "fedora-cron"}
	fedora := registrySource(p.URL(tlsPort), "registry-ca")
	byDigest := func(url string) cdiv1.DataVolumeSource {
		source := fedora.DeepCopy()
		source.Registry.URL = &url
		return *source
	}
	f.OwnedByDataVolume(old, cdiv1.Succeeded, byDigest("docker://"+p.host+"/"+p.repository+"@"+oldDigest), labels)
	f.OwnedByDataVolume(current, cdiv1.Succeeded, byDigest(p.ByDigest(tlsPort)), labels)
	machineVolume := f.OwnedByDataVolume(machine, cdiv1.Succeeded, httpSource(file.URL), nil)
	f.OwnedByDataVolume(unstarted, cdiv1.PendingPopulation, httpSource(file.URL), nil)
	cron := f.newCron("fedora-cron", fedora, func(cron *cdiv1.DataImportCron) {
		cron.Spec.ManagedDataSource, cron.Spec.ImportsToKeep = "fedora", ptr.To[int32](2)
	})
	imported := cdiv1.DataVolumeSourcePVC{Namespace: f.namespace, Name: current.name}
	yesterday := metav1.NewTime(time.Now().Add(-24 * time.Hour).Truncate(time.Second))
	said := func(status corev1.ConditionStatus, reason, message string) cdiv1.ConditionState {
		return cdiv1.ConditionState{Status: status, Reason: reason, Message: message, LastTransitionTime: yesterday, LastHeartbeatTime: yesterday}
	}
	cron.Annotations = map[string]string{
		golden.AnnotationDesiredDigest: p.digest, golden.AnnotationLastCronTime: yesterday.Format(time.RFC3339), "cdi.kubevirt.io/storage.import.storageClass": class,
	}
	cron.Status = cdiv1.DataImportCronStatus{
		LastImportedPVC: &imported, LastImportTimestamp: &yesterday, LastExecutionTimestamp: &yesterday, SourceFormat: ptr.To(cdiv1.DataImportCronSourceFormatPvc),
		CurrentImports: []cdiv1.ImportStatus{{DataVolumeName: current.name, Digest: p.digest}},
		Conditions: []cdiv1.DataImportCronCondition{
			{Type: cdiv1.DataImportCronProgressing, ConditionState: said(corev1.ConditionFalse, "NoImport", "No current import")},
			{Type: cdiv1.DataImportCronUpToDate, ConditionState: said(corev1.ConditionTrue, "UpToDate", "Latest import is up to date")},
		},
	}
	f.CreateSoon(cron)
	source := &cdiv1.DataSource{ObjectMeta: f.meta("fedora"), Spec: cdiv1.DataSourceSpec{Source: cdiv1.DataSourceSource{PVC: &imported}}}
	source.Labels[golden.LabelCron] = cron.Name
	source.Status.Source = source.Spec.Source
	source.Status.Conditions = []cdiv1.DataSourceCondition{{Type: cdiv1.DataSourceReady, ConditionState: said(corev1.ConditionTrue, "Ready", "DataSource is ready to be consumed")}}
	f.CreateSoon(source)

	// Another image, which CDI keeps as a snapshot.
	debian := golden.ClaimName("debian", p.digest)
	f.Snapshot(debian, current)
	second := cron.DeepCopy()
	second.ObjectMeta = f.meta("debian-cron")
	second.Annotations, second.Spec.ManagedDataSource = cron.Annotations, "debian"
	second.Status.LastImportedPVC, second.Status.CurrentImports[0].DataVolumeName = &cdiv1.DataVolumeSourcePVC{Namespace: f.namespace, Name: debian}, debian
	second.Status.SourceFormat = ptr.To(cdiv1.DataImportCronSourceFormatSnapshot)
	f.CreateSoon(second)
	kept := source.DeepCopy()
	kept.ObjectMeta = f.meta("debian")
	kept.Labels[golden.LabelCron] = second.Name
	kept.Spec.Source = cdiv1.DataSourceSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: f.namespace, Name: debian}}
	kept.Status.Source = kept.Spec.Source
	f.CreateSoon(kept)
	f.GuardCDI()
	before := map[string]*corev1.PersistentVolumeClaim{old.name: f.PVC(old), current.name: f.PVC(current), machine.name: f.PVC(machine)}
	fetched := file.Bytes()

	f.Follow(movingPage, func(block string) {
		switch {
		case strings.Contains(block, "ownerReferences\":null"):
			f.requireRefused("belongs to an installation of CDI", "label", "crd", cdi.VolumeDefinition, cdi.LabelOwned+"="+cdi.LeftByCDI)
		case strings.Contains(block, "gild.dev/owned=left-by-cdi"):
			f.requireRefused("docs/moving-from-cdi.md", "label", "crd", cdi.VolumeDefinition, cdi.LabelOwned+"=true")
		case strings.Contains(block, "awk"):
			f.requireMoved(before, source, kept, class)
			require.EqualValues(t, fetched, file.Bytes(), "a disk was fetched again")
			require.Zero(t, blobBytes(p.Requests()), "an image was fetched again")
		}
	})

	// Whoever reads the claims' bytes finds what was there.
	f.RequireDisk(current, newer.disk)
	f.RequireDisk(old, older.disk)
	require.Equal(t, cdiv1.Succeeded, f.ReadDataVolume(machine.name).Status.Phase)
	require.Equal(t, machineVolume.UID, f.ReadDataVolume(machine.name).UID)
	f.WaitDataVolume("machine-2", "Succeeded", inPhase(cdiv1.Succeeded))
	f.RequireDisk(f.ClaimOf("machine-2"), older.disk)
	adopted := f.WaitCron(cron.Name, "polled", polledWithin, func(cron *cdiv1.DataImportCron) bool {
		return strings.Contains(cron.Annotations[golden.AnnotationImported], `"index":"`+p.digest)
	})
	require.Equal(t, imported, *adopted.Status.LastImportedPVC)
	require.True(t, adopted.Status.LastImportTimestamp.Equal(&yesterday))
	require.Zero(t, blobBytes(p.Requests()), "an image was fetched again")
	upToDate := cronCondition(adopted, cdiv1.DataImportCronUpToDate)
	require.True(t, upToDate.LastTransitionTime.Equal(&yesterday), "it was never outdated")
	f.RequirePollWithoutChange(second.Name)
	require.Empty(t, f.GoldenClaims(second.Name), "it is in a snapshot")
	f.WaitGoldenClaims(cron.Name, old, current)

	// A copy for a machine, and the next revision.
	f.RequireBound(f.CopyOf("fedora", "machine-3"))
	newest := f.Revision(2)
	index(newest)
	f.PollNow(cron.Name)
	next := f.WaitRolled(cron.Name, current)
	f.RequireDisk(next, newest.disk)
	f.WaitGoldenClaims(cron.Name, current, next)
	f.Eventually("the DataVolume of the older claim gone", goneWithin, func(ctx context.Context) (bool, string, error) {
		return f.gone(ctx, &cdiv1.DataVolume{}, old.name)
	})
	require.Equal(t, cdiv1.Succeeded, f.ReadDataVolume(current.name).Status.Phase)
}

// requireRefused has the API server refuse a change, with words.
func (f *fixture) requireRefused(says string, args ...string) {
	f.Helper()
	_, err := f.kubectl(f.ctx, append(args, "--dry-run=server")...)
	require.ErrorContains(f, err, says)
}

// requireMoved checks that claims, DataSources and settings are what they were before, and that there was no import.
func (f *fixture) requireMoved(before map[string]*corev1.PersistentVolumeClaim, source, kept *cdiv1.DataSource, class string) {
	f.Helper()
	for name, was := range before {
		pvc := &corev1.PersistentVolumeClaim{}
		require.NoError(f, f.Get(f.ctx, f.key(name), pvc))
		require.Equal(f, was.UID, pvc.UID)
		require.Equal(f, was.Spec, pvc.Spec)
		require.Equal(f, was.OwnerReferences, pvc.OwnerReferences)
		require.Equal(f, was.Labels, pvc.Labels)
		f.WaitDataVolume(name, "ready, says Gild", func(volume *cdiv1.DataVolume) bool {
			return volume.Status.Phase == cdiv1.Succeeded && volumeReady(volume).Status == corev1.ConditionTrue
		})
	}
	f.WaitDataVolume("machine-2", "not filled by CDI", func(volume *cdiv1.DataVolume) bool { return volumeReady(volume).Reason == "LeftByCDI" })
	for _, was := range []*cdiv1.DataSource{source, kept} {
		is := f.ReadDataSource(was.Name)
		require.Equal(f, was.UID, is.UID)
		require.Equal(f, was.Spec, is.Spec)
		require.Equal(f, corev1.ConditionTrue, dataSourceReady(is).Status)
		require.Equal(f, was.ResourceVersion, is.ResourceVersion, "%s was written", was.Name)
	}
	var imports v1alpha1.VMDiskImportList
	require.NoError(f, f.List(f.ctx, &imports, client.InNamespace(f.namespace)))
	require.Empty(f, imports.Items)
	profile, config := &cdiv1.StorageProfile{}, &cdiv1.CDIConfig{}
	require.NoError(f, f.Get(f.ctx, client.ObjectKey{Name: class}, profile))
	require.Equal(f, []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, profile.Spec.ClaimPropertySets[0].AccessModes)
	require.NoError(f, f.Get(f.ctx, client.ObjectKey{Name: "config"}, config))
	require.Equal(f, cdiv1.Percent("0.07"), config.Spec.FilesystemOverhead.Global)
	role := &rbacv1.ClusterRole{}
	require.NoError(f, f.Get(f.ctx, client.ObjectKey{Name: cdiRole}, role))
	require.Empty(f, role.OwnerReferences)
	for _, name := range []string{"fedora-cron", "debian-cron"} {
		cron := f.ReadCron(name)
		require.Equal(f, corev1.ConditionTrue, cronCondition(cron, cdiv1.DataImportCronUpToDate).Status, describeCron(cron))
	}
}
