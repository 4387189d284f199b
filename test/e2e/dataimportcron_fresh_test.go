//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// ofCronClass gives the golden claims of a cron a StorageClass.
func ofCronClass(name string) func(*cdiv1.DataImportCron) {
	return func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Storage.StorageClassName = &name }
}

// RequireGolden checks what a golden claim is promised to be.
func (f *fixture) RequireGolden(c claim, cron string) {
	f.Helper()
	pvc, owner := f.PVC(c), f.ReadCron(cron)
	require.Equal(f, golden.ClaimName(owner.Spec.ManagedDataSource, owner.Annotations[golden.AnnotationDesiredDigest]), c.name)
	require.Equal(f, corev1.ClaimBound, pvc.Status.Phase)
	require.Equal(f, cron, pvc.Labels[golden.LabelCron])
	require.NotEmpty(f, pvc.Annotations[golden.AnnotationVerified])
	used, err := time.Parse(time.RFC3339Nano, pvc.Annotations[golden.AnnotationLastUseTime])
	require.NoError(f, err)
	require.WithinDuration(f, time.Now(), used, time.Hour)
	require.Equal(f, corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.CronKind, Name: cron}, *pvc.Spec.DataSourceRef)
	require.Empty(f, pvc.OwnerReferences, "it outlives its cron")
	require.Equal(f, []cdiv1.ImportStatus{{DataVolumeName: c.name, Digest: owner.Annotations[golden.AnnotationDesiredDigest]}}, owner.Status.CurrentImports)
	f.RequireNothingLeft(c)
}

// TestDataImportCronFollowsAFile follows a file on nginx: it is imported, verified and shown, and rolled once it
// has changed. What a user makes of the cron is the newest image.
func TestDataImportCronFollowsAFile(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]storagev1.VolumeBindingMode{
		"Immediate": storagev1.VolumeBindingImmediate, "WaitForFirstConsumer": storagev1.VolumeBindingWaitForFirstConsumer,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			host, _ := f.Nginx(f.namespace + "-nginx")
			path, cron := f.namespace+"/disk.img", "fedora"
			first, second := f.Revision(0), f.Revision(1)
			f.PutOnNginx(path, f.convert(first.disk, "raw"))
			f.Cron(cron, httpSource("http://"+host+"/"+path), ofCronClass(f.Class(mode)))
			a := f.WaitRolled(cron)
			f.RequireGolden(a, cron)
			f.RequireDisk(a, first.disk)
			f.RequirePollWithoutChange(cron)
			f.WaitGoldenClaims(cron, a)

			f.PutOnNginx(path, f.convert(second.disk, "qcow2"))
			f.PollNow(cron)
			b := f.WaitRolled(cron, a)
			f.RequireGolden(b, cron)
			f.RequireDisk(b, second.disk)
			f.WaitGoldenClaims(cron, a, b)

			c := f.UserClaim("mine", cron)
			f.RequireBound(c)
			f.RequireDisk(c, second.disk)

			header, row := firstLines(t, f.Kubectl("get", "dic"))
			for _, column := range []string{"SCHEDULE", "LAST POLL", "UP TO DATE", "DATASOURCE"} {
				require.Contains(t, header, column)
			}
			require.Contains(t, row, cron+" ")
			require.Contains(t, row, onceSchedule)
			require.Contains(t, row, "True")

			metrics := f.pollerMetrics()
			require.Contains(t, metrics, fmt.Sprintf("gild_dataimportcron_outdated{name=%q,namespace=%q} 0", cron, f.namespace))
			require.Contains(t, metrics, fmt.Sprintf("gild_poll_last_success_timestamp_seconds{name=%q,namespace=%q} ", cron, f.namespace))
			require.Regexp(t, `(?m)^gild_polls_total\{result="not_modified"\} [1-9]`, metrics)
		})
	}
}

// TestDataImportCronAsksOnlyForWhatIsNew polls with the server's own validators, and drops a copy of the same bytes.
func TestDataImportCronAsksOnlyForWhatIsNew(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Revision(0)
	source, cron := f.Serve("disk", img.file), "fedora"
	f.Cron(cron, httpSource(source.URL))
	a := f.WaitRolled(cron)
	before := len(source.Requests())
	f.RequirePollWithoutChange(cron)
	polls := source.Requests()[before:]
	require.Len(t, polls, 1)
	require.Equal(t, http.MethodHead, polls[0].Method)
	require.Equal(t, http.StatusNotModified, polls[0].Status)
	require.Equal(t, f.Import(a).Status.Result.ETag, polls[0].Header.Get("If-None-Match"))
	require.Equal(t, f.Import(a).Status.Result.LastModified, polls[0].Header.Get("If-Modified-Since"))

	// The same bytes under another name of theirs.
	img.file.NoETag, img.file.Headers = true, map[string]string{"ETag": `"of-a-mirror"`}
	source.Publish(img.file)
	desired := f.ReadCron(cron).Annotations[golden.AnnotationDesiredDigest]
	f.PollNow(cron)
	f.WaitCron(cron, "the copy dropped", importWithin, func(now *cdiv1.DataImportCron) bool {
		imported, err := golden.ParseRevision(now.Annotations[golden.AnnotationImported])
		return err == nil && imported.Digest != desired && imported.Digest == now.Annotations[golden.AnnotationDesiredDigest] &&
			cronCondition(now, cdiv1.DataImportCronUpToDate).Status == corev1.ConditionTrue
	})
	f.WaitGoldenClaims(cron, a)
	f.RequireSource(cron, a)
	f.RequirePollWithoutChange(cron)
}

// TestDataImportCronFollowsATag follows a tag in a registry. What changes for another platform is nothing new, and a tag
// that goes back leads to the claim that is there.
func TestDataImportCronFollowsATag(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("a node whose platform is this machine's")
	f.ConfigMap("registry-ca", map[string]string{"ca.crt": f.WebCA()})
	first, second, other := f.Revision(0), f.Revision(1), f.Revision(2)
	of := func(architecture string, img image) ociImage {
		return containerOf(architecture, f.layer(gzipTar, diskEntries("disk.qcow2", f.convert(img.disk, "qcow2"))...))
	}
	push := func(here, there image) *pushed {
		return f.PushIndex("disk", map[string]ociImage{runtime.GOARCH: of(runtime.GOARCH, here), "s390x": of("s390x", there)})
	}
	p, cron := push(first, other), "fedora"
	f.Cron(cron, registrySource(p.URL(tlsPort), "registry-ca"))
	a := f.WaitRolled(cron)
	f.RequireGolden(a, cron)
	f.RequireDisk(a, first.disk)

	before := len(p.Requests())
	f.RequirePollWithoutChange(cron)
	for _, request := range p.Requests()[before:] {
		require.Equal(t, http.MethodHead, request.Method, "an index that stays is not read again")
	}
	push(first, second)
	f.RequirePollWithoutChange(cron)
	f.WaitGoldenClaims(cron, a)

	push(second, second)
	f.PollNow(cron)
	b := f.WaitRolled(cron, a)
	f.RequireDisk(b, second.disk)
	imported := f.Import(a).UID

	push(first, other)
	f.PollNow(cron)
	require.Equal(t, a, f.WaitRolled(cron, b))
	require.Equal(t, imported, f.Import(a).UID, "it is not imported again")
	f.WaitGoldenClaims(cron, a, b)
}

// TestDataImportCronPrunes keeps the newest claims only.
func TestDataImportCronPrunes(t *testing.T) {
	t.Parallel()
	f := start(t)
	cron := "fedora"
	source := f.Serve("disk", f.Revision(0).file)
	f.Cron(cron, httpSource(source.URL), func(cron *cdiv1.DataImportCron) { cron.Spec.ImportsToKeep = ptr.To[int32](2) })
	all := []claim{f.WaitRolled(cron)}
	for n := range uint64(3) {
		source.Publish(f.Revision(n + 1).file)
		f.PollNow(cron)
		all = append(all, f.WaitRolled(cron, all...))
	}
	f.WaitGoldenClaims(cron, all[2:]...)
	f.RequireDisk(all[3], f.Revision(3).disk)
	f.RequireDisk(all[2], f.Revision(2).disk)
	for _, c := range all {
		f.RequireNothingLeft(c)
	}
}

// TestDataImportCronPollsOnSchedule waits for the time of a schedule.
func TestDataImportCronPollsOnSchedule(t *testing.T) {
	t.Parallel()
	f := start(t)
	cron := "fedora"
	source := f.Serve("disk", f.Revision(0).file)
	f.Cron(cron, httpSource(source.URL), func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = "* * * * *" })
	a := f.WaitRolled(cron)
	source.Publish(f.Revision(1).file)
	b := f.WaitRolled(cron, a)
	f.RequireDisk(b, f.Revision(1).disk)
	require.True(t, slices.Contains(f.GoldenClaims(cron), a.name))
}

// TestDataImportCronByHand imports what its user names, and nothing else.
func TestDataImportCronByHand(t *testing.T) {
	t.Parallel()
	byHand := func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = "" }
	t.Run("registry", func(t *testing.T) {
		t.Parallel()
		f := start(t)
		f.ConfigMap("registry-ca", map[string]string{"ca.crt": f.WebCA()})
		push := func(n uint64) *pushed {
			return f.Push("disk", f.containerDisk(gzipTar, "disk.qcow2", f.convert(f.Revision(n).disk, "qcow2")))
		}
		old, now, cron := push(0), push(1), "fedora"
		f.Cron(cron, registrySource(now.URL(tlsPort), "registry-ca"), byHand)
		f.WaitCron(cron, "no digest", polledWithin, func(cron *cdiv1.DataImportCron) bool {
			return cronCondition(cron, cdiv1.DataImportCronUpToDate).Reason == "NoDigest"
		})
		require.Empty(t, f.GoldenClaims(cron))
		// The tag has moved on; its user wants the image before.
		f.AnnotateCron(cron, golden.AnnotationDesiredDigest, old.digest)
		a := f.WaitRolled(cron)
		f.RequireGolden(a, cron)
		f.RequireDisk(a, f.Revision(0).disk)
		f.AnnotateCron(cron, golden.AnnotationDesiredDigest, now.digest)
		f.RequireDisk(f.WaitRolled(cron, a), f.Revision(1).disk)
	})
	t.Run("http", func(t *testing.T) {
		t.Parallel()
		f := start(t)
		source, cron := f.Serve("disk", f.Revision(0).file), "fedora"
		f.Cron(cron, httpSource(source.URL), byHand)
		f.AnnotateCron(cron, golden.AnnotationDesiredDigest, digestOf([]byte("one")))
		a := f.WaitRolled(cron)
		f.RequireGolden(a, cron)
		f.RequireDisk(a, f.Revision(0).disk)
		source.Publish(f.Revision(1).file)
		f.AnnotateCron(cron, golden.AnnotationDesiredDigest, digestOf([]byte("two")))
		f.RequireDisk(f.WaitRolled(cron, a), f.Revision(1).disk)
	})
}
