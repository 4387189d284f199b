//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// TestRestoresASnapshot makes claims of one golden image, of either volume mode and binding mode. Its disk is fetched
// once, and nothing runs to copy it.
func TestRestoresASnapshot(t *testing.T) {
	t.Parallel()
	for name, cron := range map[string]func(*cdiv1.DataImportCron){"Filesystem": func(*cdiv1.DataImportCron) {}, "Block": blockCron} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.NeedsTestCluster("a driver that takes snapshots")
			img := f.Revision(0)
			gold, source := f.Golden("fedora", img, cron)
			f.RequireSnapshot(gold)
			fetched := source.Bytes()
			same := f.as(gold)
			wait := ofClass(f.Class(storagev1.VolumeBindingWaitForFirstConsumer))
			for claimName, edits := range map[string][]func(*corev1.PersistentVolumeClaim){
				"first":             {same},
				"of-the-cron":       {same, ofCron("fedora")},
				"without-consumer":  {same, wait, immediately},
				"larger":            {same, ofSize(2 * cronClaimSize)},
				"with-its-consumer": {same, wait},
			} {
				c := f.CopyOf("fedora", claimName, edits...)
				if claimName == "with-its-consumer" {
					pod := f.Consume(c, img.disk.Size)
					f.RequireStrategy(c, v1alpha1.StrategySnapshot)
					f.RequireReport(c, pod, img.disk, img.disk.Size)
				} else {
					imp := f.RequireStrategy(c, v1alpha1.StrategySnapshot)
					require.Equal(t, v1alpha1.CopySource{Kind: v1alpha1.CopyOfClaim, Namespace: f.namespace, Name: gold.name, UID: f.PVC(gold).UID}, *imp.Spec.CopyOf)
					f.RequireDisk(c, img.disk)
				}
				if claimName == "first" {
					require.Zero(t, f.Import(c).Status.Attempts, "no importer runs")
				}
				f.RequireNothingLeft(c)
			}
			require.Equal(t, fetched, source.Bytes(), "the disk is fetched once")

			require.NoError(t, f.Delete(f.ctx, f.ReadCron("fedora"), client.PropagationPolicy("Background")))
			f.DeleteClaim(gold)
			f.WaitNoSnapshot(gold)
		})
	}
}

// ofCron has a claim refer to a DataImportCron.
func ofCron(name string) func(*corev1.PersistentVolumeClaim) {
	return func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.CronKind, Name: name}
	}
}

// TestCopiesAVolume makes claims that the storage cannot restore from a snapshot: of another driver, and of the other
// volume mode.
func TestCopiesAVolume(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cron  func(*cdiv1.DataImportCron)
		claim func(*corev1.PersistentVolumeClaim)
	}{
		"of a driver that has no snapshots": {ofCronClass(plainClass), ofClass(plainClass)},
		"Block to Filesystem":               {blockCron, func(*corev1.PersistentVolumeClaim) {}},
		"Filesystem to Block":               {func(*cdiv1.DataImportCron) {}, block},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.NeedsTestCluster("two drivers")
			img := f.Revision(0)
			gold, source := f.Golden("fedora", img, test.cron)
			fetched := source.Bytes()
			// A block device is copied whole, and a file as long as it needs a larger file system.
			c := f.CopyOf("fedora", "copy", test.claim, ofSize(2*cronClaimSize))
			imp := f.RequireStrategy(c, v1alpha1.StrategyCopy, v1alpha1.StrategySnapshot)
			require.EqualValues(t, 1, imp.Status.Attempts)
			if gold.mode == corev1.PersistentVolumeBlock {
				f.RequireGrown(c, img.disk, cronClaimSize)
			} else {
				f.RequireDisk(c, img.disk)
			}
			f.RequireNothingLeft(c)
			require.Equal(t, fetched, source.Bytes(), "the disk is fetched once")
		})
	}
}

// TestImportsAgain fetches the disk again where its volume can be neither restored nor read.
func TestImportsAgain(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("a driver that has no snapshots")
	img := f.Revision(0)
	gold, source := f.Golden("fedora", img, ofCronClass(plainClass))
	f.Writer(gold)
	fetched := source.Bytes()
	c := f.CopyOf("fedora", "again", ofClass(plainClass))
	imp := f.RequireStrategy(c, v1alpha1.StrategyImport, v1alpha1.StrategySnapshot, v1alpha1.StrategyCopy)
	require.Contains(t, imp.Status.PassedOver[1].Message, "writer-of-"+gold.name)
	require.Greater(t, source.Bytes(), fetched)
	f.RequireDisk(c, img.disk)
	f.RequireNothingLeft(c)
}

// TestCopiesWhatIsNamedByHand makes claims of DataSources that no cron manages: of a claim that holds anything, and of a
// snapshot of it, directly and through another DataSource.
func TestCopiesWhatIsNamedByHand(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("a driver that takes snapshots")
	img := f.Raw(cronDiskSize)
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	mine := f.Claim("mine", "image", ofSize(cronClaimSize))
	f.RequireDone(mine, img)
	f.Snapshot("mine", mine)
	f.DataSource("of-a-claim", cdiv1.DataSourceSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: f.namespace, Name: mine.name}})
	f.DataSource("of-a-snapshot", cdiv1.DataSourceSource{Snapshot: &cdiv1.DataVolumeSourceSnapshot{Namespace: f.namespace, Name: "mine"}})
	f.DataSource("of-another", cdiv1.DataSourceSource{DataSource: &cdiv1.DataSourceRefSourceDataSource{Namespace: f.namespace, Name: "of-a-claim"}})
	for _, dataSource := range []string{"of-a-claim", "of-a-snapshot", "of-another"} {
		c := f.CopyOf(dataSource, dataSource, f.as(mine))
		f.RequireStrategy(c, v1alpha1.StrategySnapshot)
		f.RequireDisk(c, img.disk)
		f.RequireNothingLeft(c)
	}
	small := f.CopyOf("of-a-claim", "small", ofSize(cronDiskSize/2))
	imp := f.WaitImport(small, "failure", importWithin, func(imp *v1alpha1.VMDiskImport) bool { return imp.Status.Phase == v1alpha1.PhaseFailed })
	require.Contains(t, ready(imp).Message, "ask for at least 16Mi")
	f.RequireNothingLeft(small)
}
