//go:build e2e

package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/test/imageserver/server"
)

// TestDataImportCronSurvivesABrokenUpload keeps the last good image while its successor is broken, and rolls once it is mended.
func TestDataImportCronSurvivesABrokenUpload(t *testing.T) {
	t.Parallel()
	f := start(t)
	cron := "fedora"
	good := f.convert(f.Revision(0).disk, "qcow2")
	source := f.Serve("disk", server.File{Blob: f.Upload("good", good)})
	f.Cron(cron, httpSource(source.URL))
	a := f.WaitRolled(cron)

	next := f.convert(f.Revision(1).disk, "qcow2")
	source.Publish(server.File{Blob: f.Upload("cut", next[:len(next)/2])})
	f.PollNow(cron)
	f.WaitCron(cron, "outdated", importWithin, func(cron *cdiv1.DataImportCron) bool {
		return cronCondition(cron, cdiv1.DataImportCronUpToDate).Status == corev1.ConditionFalse && len(f.GoldenClaims(cron.Name)) == 2
	})
	var broken claim
	for _, name := range f.GoldenClaims(cron) {
		if name != a.name {
			broken = f.GoldenClaim(name)
		}
	}
	imp := f.WaitImport(broken, "failure", importWithin, func(imp *v1alpha1.VMDiskImport) bool { return imp.Status.Phase == v1alpha1.PhaseFailed })
	require.Equal(t, "TruncatedImage", imp.Status.LastFailure.Reason)
	f.RequireSource(cron, a)
	require.Equal(t, a.name, f.ReadCron(cron).Status.LastImportedPVC.Name)
	f.RequireDisk(a, f.Revision(0).disk)

	source.Publish(server.File{Blob: f.Upload("whole", next)})
	f.PollNow(cron)
	b := f.WaitRolled(cron, a, broken)
	f.RequireDisk(b, f.Revision(1).disk)
	f.WaitGoldenClaims(cron, a, b)
	f.RequireNothingLeft(broken)
}

// TestDataImportCronSaysWhyItCannotPoll breaks the source in turn. Each time the cron says so, and keeps what it has.
func TestDataImportCronSaysWhyItCannotPoll(t *testing.T) {
	t.Parallel()
	f := start(t)
	cron, img := "fedora", f.Revision(0)
	img.file.Need = map[string]string{"Authorization": "Bearer " + f.right()}
	source := f.Serve("disk", img.file)
	f.ConfigMap("ca", map[string]string{"ca.crt": f.WebCA()})
	f.Cron(cron, cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: source.TLS(), SecretRef: "login", CertConfigMap: "ca"}})
	uid := claim{uid: string(f.ReadCron(cron).UID)}
	f.WaitPollFails(cron, "SecretNotFound")
	require.Empty(t, source.Requests(), "nothing is asked for without its Secret")
	f.Secret("login", map[string]string{"token": f.right()})
	f.PollNow(cron)
	a := f.WaitRolled(cron)
	imported := f.ReadCron(cron)

	other, err := newCertificate("*." + f.webNamespace() + ".svc")
	require.NoError(t, err)
	answer := func(status int) func() {
		return func() {
			broken := img.file // the file comes back as it was
			broken.Status = status
			source.Publish(broken)
		}
	}
	for _, fault := range []struct {
		reason       string
		inflict, end func()
	}{
		{"NotFound", answer(http.StatusNotFound), func() { source.Publish(img.file) }},
		{"AuthenticationFailed", func() { f.Secret("login", map[string]string{"token": f.Canary()}) },
			func() { f.Secret("login", map[string]string{"token": f.right()}) }},
		{"CertificateError", func() { f.ConfigMap("ca", map[string]string{"ca.crt": string(other.ca)}) },
			func() { f.ConfigMap("ca", map[string]string{"ca.crt": f.WebCA()}) }},
		{"ConfigMapNotFound", func() { require.NoError(t, f.Delete(f.ctx, &corev1.ConfigMap{ObjectMeta: f.meta("ca")})) },
			func() { f.ConfigMap("ca", map[string]string{"ca.crt": f.WebCA()}) }},
		{"ServerError", answer(http.StatusServiceUnavailable), func() { source.Publish(img.file) }},
	} {
		fault.inflict()
		f.PollNow(cron)
		seen := f.WaitPollFails(cron, fault.reason)
		require.Equal(t, corev1.ConditionTrue, cronCondition(seen, cdiv1.DataImportCronUpToDate).Status, fault.reason)
		f.WaitEvent(uid, "PollFailed", fault.reason)
		f.RequireSource(cron, a)
		fault.end()
		f.PollNow(cron)
		f.WaitPolled(cron)
	}
	f.WaitGoldenClaims(cron, a)
	require.Equal(t, imported.Status.LastImportTimestamp, f.ReadCron(cron).Status.LastImportTimestamp)
	f.RequirePollWithoutChange(cron)
}

// TestDataImportCronChangesItsStorageClass makes the new copy before the old one goes.
func TestDataImportCronChangesItsStorageClass(t *testing.T) {
	t.Parallel()
	f := start(t)
	cron, img := "fedora", f.Revision(0)
	source := f.Serve("disk", img.file)
	f.Cron(cron, httpSource(source.URL))
	a := f.WaitRolled(cron)
	class := f.CopyClass(f.NewClassName(), func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
	})
	source.Publish(img.Held())
	f.EditCron(cron, ofCronClass(class))
	f.WaitCron(cron, "a second copy", importWithin, func(*cdiv1.DataImportCron) bool { return len(f.GoldenClaims(cron)) == 2 })
	source.WaitServed(img.length + img.length/2)
	f.RequireSource(cron, a)
	source.Publish(img.file)
	b := f.WaitRolled(cron, a)
	require.Equal(t, class, *f.PVC(b).Spec.StorageClassName)
	f.RequireDisk(b, img.disk)
}

// TestDataImportCronLeavesOthersAlone does not take a DataSource that someone else has made, nor that of another cron.
func TestDataImportCronLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	f := start(t)
	cron, source := "fedora", f.Serve("disk", f.Revision(0).file)
	taken := &cdiv1.DataSource{ObjectMeta: f.meta(cron), Spec: cdiv1.DataSourceSpec{Source: cdiv1.DataSourceSource{
		PVC: &cdiv1.DataVolumeSourcePVC{Namespace: f.namespace, Name: "mine"},
	}}}
	require.NoError(t, f.Create(f.ctx, taken))
	f.Cron(cron, httpSource(source.URL))
	f.WaitEvent(claim{uid: string(f.ReadCron(cron).UID)}, "DataSourceNotManaged", cron)
	require.Equal(t, taken.Spec, f.ReadDataSource(cron).Spec)

	// Once its owner has given it up, the cron makes its own.
	require.NoError(t, f.Delete(f.ctx, taken))
	a := f.WaitRolled(cron)
	f.Cron("rival", httpSource(source.URL), func(rival *cdiv1.DataImportCron) { rival.Spec.ManagedDataSource = cron })
	f.WaitEvent(claim{uid: string(f.ReadCron("rival").UID)}, "ErrDataSourceAlreadyManaged", cron)
	require.Empty(t, f.GoldenClaims("rival"))
	f.RequireSource(cron, a)
}
