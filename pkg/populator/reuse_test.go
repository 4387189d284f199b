package populator

import (
	"strings"
	"testing"

	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func TestOneDownloadForMany(t *testing.T) {
	c := newCrowd(t, nil)
	c.settle(c.boundAll)
	require.Equal(t, []v1alpha1.Strategy{v1alpha1.StrategyImport, v1alpha1.StrategySnapshot, v1alpha1.StrategySnapshot}, c.strategies())
	require.Equal(t, []string{"complete", "--target=/target", "--source=https://images.example.org/debian-12.qcow2", `--pin={"etag":"\"one\""}`,
		"--secret-dir=" + secretDirectory, "--ca-dir=" + caDirectory, "--termination-log=" + terminationLog}, c.completed["web-2"])
	leader, follower := c.importNamed("web-1"), c.importNamed("web-3")
	require.Nil(t, leader.Status.Reuses)
	require.Equal(t, &v1alpha1.ImportReference{Name: "web-1", UID: leader.UID}, follower.Status.Reuses)
	require.Empty(t, follower.Status.PassedOver)
	require.Len(t, follower.Status.References, 2, "its own credentials")
	result := follower.Status.Result
	require.EqualValues(t, 1024, result.VirtualSize)
	require.Equal(t, "qcow2", result.SourceFormat)
	require.Equal(t, v1alpha1.DiskFormatRaw, result.Format)
	require.Equal(t, `"one"`, result.ETag)
	require.Zero(t, result.TransferredBytes)
	require.Equal(t, "0.5", result.Seconds)
	ready := meta.FindStatusCondition(follower.Status.Conditions, v1alpha1.ConditionReady)
	require.Contains(t, ready.Message, "restored from a snapshot of what VMDiskImport web-1 imported")
	require.True(t, c.told(eventFollows, "VMDiskImport web-1 imports this image already"))
	require.Equal(t, 3, c.primes, "no volume is made in vain")
	c.requireShared("web-1")
}

// TestLaterClaimJoins while the leader imports.
func TestLaterClaimJoins(t *testing.T) {
	c := newCrowd(t, func(_ *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim) {
		claims[2].Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("6Gi")
	})
	c.names = []string{"web-1"}
	c.settleBy(0, func() bool { return c.running == 1 })
	c.names = []string{"web-1", "web-2", "web-3"}
	c.settle(c.boundAll)
	c.requireShared("web-1")
}

func TestBlockVolumeIsSharedAndItsTailCleared(t *testing.T) {
	c := newCrowd(t, func(_ *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim) {
		for _, claim := range claims {
			claim.Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
		}
		claims[2].Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("6Gi")
	})
	c.settle(c.boundAll)
	require.Contains(t, c.completed["web-3"], "--disk-end=4Gi")
	require.Contains(t, c.completed["web-3"], "--target="+targetDevice)
	c.requireShared("web-1")
}

func TestImageOfARegistryIsSharedByItsDigest(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	c := newCrowd(t, func(image *v1alpha1.VMDiskImage, _ []*corev1.PersistentVolumeClaim) {
		image.Spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/disk:1", Content: v1alpha1.ImageContentRootfs,
			Platform: &v1alpha1.ImagePlatform{Architecture: "arm64"}}}
	})
	c.reading = func(string, int32) (int32, string) {
		return 0, `{"reason":"Imported","content":"rootfs","digest":"` + digest + `","virtualSize":1024,"seconds":1}`
	}
	c.settle(c.boundAll)
	require.Equal(t, []string{"complete", "--target=/target", "--source=docker://registry.example.org/disk:1", "--platform=linux/arm64",
		`--pin={"digest":"` + digest + `"}`, "--termination-log=" + terminationLog}, c.completed["web-2"])
	c.requireShared("web-1")
}

func TestRevisionThatNobodyCanTellIsNotShared(t *testing.T) {
	for name, result := range map[string]string{
		"no validator": `{"reason":"Imported","virtualSize":1024,"seconds":1}`,
		"a weak one":   `{"reason":"Imported","etag":"W/\"one\"","virtualSize":1024,"seconds":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, nil)
			c.reading = func(string, int32) (int32, string) { return 0, result }
			taken := 0
			c.settle(func() bool {
				taken = max(taken, len(c.snapshotNames()))
				return c.boundAll()
			})
			require.Zero(t, taken)
			require.Len(t, c.read, 3)
			require.Contains(t, c.importNamed("web-2").Status.PassedOver[0].Message, "checksum")
			c.requireCleared()
		})
	}
}

func TestWhoCannotFollowImportsOnItsOwn(t *testing.T) {
	other := fastClass()
	other.Name, other.Provisioner = "other", "other.example.org"
	for name, test := range map[string]struct {
		change func(image *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim)
		reads  int
	}{
		"another driver": {func(_ *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim) {
			claims[1].Spec.StorageClassName = ptr.To("other")
		}, 2},
		"another driver of the first": {func(_ *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim) {
			claims[0].Spec.StorageClassName = ptr.To("other")
		}, 2},
		"Block": {func(_ *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim) {
			claims[1].Spec.VolumeMode = ptr.To(corev1.PersistentVolumeBlock)
		}, 2},
		"a smaller claim": {func(_ *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim) {
			claims[1].Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("3Gi")
		}, 2},
		"Never": {func(image *v1alpha1.VMDiskImage, _ []*corev1.PersistentVolumeClaim) {
			image.Spec.Reuse = v1alpha1.ReuseNever
		}, 3},
		"files": {func(image *v1alpha1.VMDiskImage, _ []*corev1.PersistentVolumeClaim) {
			image.Spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/files:1", Content: v1alpha1.ImageContentFiles}}
		}, 3},
		"blank": {func(image *v1alpha1.VMDiskImage, _ []*corev1.PersistentVolumeClaim) {
			image.Spec.Source, image.Spec.Size = v1alpha1.DiskSource{Blank: &v1alpha1.BlankSource{}}, ptr.To(resource.MustParse("1Gi"))
		}, 3},
		"the node pulls": {func(image *v1alpha1.VMDiskImage, _ []*corev1.PersistentVolumeClaim) {
			image.Spec.Source = v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{URL: "docker://registry.example.org/disk:1", PullMethod: v1alpha1.PullMethodNode}}
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrowd(t, test.change, other)
			all := c.names
			c.names = all[:1]
			c.settleBy(0, func() bool { return c.running == 1 })
			c.names = all
			began := c.clock.Now()
			c.settle(c.boundAll)
			require.Len(t, c.read, test.reads)
			require.Len(t, c.restored, 3-test.reads)
			require.Less(t, c.clock.Since(began), leadPatience*3, "nobody waits for what cannot be")
			for _, name := range c.names {
				require.Empty(t, c.importNamed(name).Status.PassedOver)
			}
			c.requireCleared()
		})
	}
}

// TestSmallestClaimLeads of those that begin together: the others can follow it.
func TestSmallestClaimLeads(t *testing.T) {
	c := newCrowd(t, func(_ *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim) {
		claims[1].Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("3Gi")
	})
	c.settle(c.boundAll)
	c.requireShared("web-2")
}

func TestNothingIsSharedWithoutSnapshots(t *testing.T) {
	c := newCrowd(t, nil)
	require.NoError(t, c.store.Delete(t.Context(), snapshotClass()))
	c.settle(c.boundAll)
	require.Len(t, c.read, 3)
	c.requireCleared()
}

// TestWrongCredentialsOfAFollower: what the leader was allowed to read is not for everybody.
func TestWrongCredentialsOfAFollower(t *testing.T) {
	c := newCrowd(t, nil)
	c.completing = func(claim string, _ int32) (int32, string) {
		if claim == "web-2" {
			return 10, `{"reason":"AuthenticationFailed","message":"401"}`
		}
		return 0, crowdCompleted
	}
	c.settle(func() bool {
		return c.bound() && c.claimNamed("web-3").Spec.VolumeName != "" && c.importNamed("web-2").Status.Phase == v1alpha1.PhaseFailed
	})
	failed := c.importNamed("web-2")
	require.Equal(t, "AuthenticationFailed", failed.Status.LastFailure.Reason)
	require.Len(t, c.read, 1)
	require.Empty(t, c.claimNamed("web-2").Spec.VolumeName)
	c.requireCleared()
	c.completing = nil
	require.NoError(t, c.store.Delete(t.Context(), login("")))
	require.NoError(t, c.store.Create(t.Context(), login("another")))
	c.settle(c.boundAll)
	require.Len(t, c.read, 2, "it imports what nobody imports just now")
	c.requireCleared()
}

// TestClaimWithoutConsumerNeitherLeadsNorFollows: nobody knows when its time comes.
func TestClaimWithoutConsumerNeitherLeadsNorFollows(t *testing.T) {
	late := fastClass()
	late.Name, late.VolumeBindingMode = "late", ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	c := newCrowd(t, func(_ *v1alpha1.VMDiskImage, claims []*corev1.PersistentVolumeClaim) {
		claims[0].Spec.StorageClassName, claims[2].Spec.StorageClassName = ptr.To(late.Name), ptr.To(late.Name)
	}, late)
	c.chosen = func(claim *corev1.PersistentVolumeClaim) bool { return *claim.Spec.StorageClassName != late.Name }
	c.settle(func() bool { return c.claimNamed("web-2").Spec.VolumeName != "" })
	require.Len(t, c.read, 1)
	require.Nil(t, c.importNamed("web-3").Status.Reuses)
	require.Empty(t, c.snapshotNames())
}

// TestForgedLeader: the status of an import can be written by others. It opens no snapshot of another namespace.
func TestForgedLeader(t *testing.T) {
	foreign := claimOfCrowd(2)
	foreign.Namespace = "others"
	theirs := newImport(foreign, imageSpec(privateImage()))
	theirs.UID = "theirs"
	claim := claimOfCrowd(1)
	forged := newImport(claim, imageSpec(privateImage()))
	forged.UID = forgedUID
	forged.Status.Strategy, forged.Status.Reuses = v1alpha1.StrategySnapshot, &v1alpha1.ImportReference{Name: "web-2", UID: "theirs"}
	left := &snapshotv1.VolumeSnapshot{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: reuseSnapshotName("theirs"), UID: "left-uid",
			Labels: map[string]string{labelManagedBy: managedByPopulator, labelReuseUID: "theirs", "gild.dev/snapshot": "taken"},
			Annotations: map[string]string{annotationClaim: "others/web-2", annotationVouched: "true", annotationReuseKey: reuseKey(theirs),
				annotationResult: `{"etag":"\"one\"","time":null}`}},
		Spec:   snapshotv1.VolumeSnapshotSpec{Source: snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: ptr.To(primeName(foreign.UID))}},
		Status: &snapshotv1.VolumeSnapshotStatus{BoundVolumeSnapshotContentName: ptr.To("left"), ReadyToUse: ptr.To(true)},
	}
	theirs.Status.Reuses = &v1alpha1.ImportReference{Name: "web-9", UID: "theirs"} // it is still needed
	c := newCrowd(t, func(_ *v1alpha1.VMDiskImage, _ []*corev1.PersistentVolumeClaim) {}, forged, theirs, left)
	c.names = []string{"web-1"}
	c.settle(c.boundAll)
	require.Empty(t, c.restored)
	require.Len(t, c.read, 1)
	require.Equal(t, []string{systemNamespace + "/" + reuseSnapshotName("theirs")}, c.snapshotNames(), "nor does it take it from them")
}
