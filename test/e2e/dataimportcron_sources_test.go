//go:build e2e

package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/test/imageserver/server"
)

// TestDataImportCronFollowsAVolume follows a claim of another namespace once that lets the cron's service account copy it.
// Another claim of its name is another revision.
func TestDataImportCronFollowsAVolume(t *testing.T) {
	t.Parallel()
	images, users := start(t), start(t)
	first, second, cron := images.Revision(0), images.Revision(1), "fedora"
	file := images.Serve("disk", first.file)
	images.VMDiskImage("image", file.URL)
	base := images.Claim("base", "image", ofSize(cronClaimSize))
	images.RequireBound(base)
	users.Cron(cron, cdiv1.DataVolumeSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: images.namespace, Name: base.name}},
		func(cron *cdiv1.DataImportCron) { cron.Spec.ServiceAccountName = ptr.To("cloner") })
	users.WaitPollFails(cron, "NotAuthorized")
	images.letSource(rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: users.namespace, Name: "cloner"})
	users.PollNow(cron)
	a := users.WaitRolled(cron)
	users.RequireDisk(a, first.disk)

	images.DeleteClaim(base)
	file.Publish(second.file)
	images.RequireBound(images.Claim(base.name, "image", ofSize(cronClaimSize)))
	users.PollNow(cron)
	b := users.WaitRolled(cron, a)
	users.RequireDisk(b, second.disk)
	users.RequireDisk(a, first.disk)
	users.RequireNothingLeft(b)
}

// TestDataImportCronFollowsAChecksumFile follows a server without validators, and keeps every image.
func TestDataImportCronFollowsAChecksumFile(t *testing.T) {
	t.Parallel()
	f := start(t)
	cron := "fedora"
	bare := func(n uint64) image {
		img := f.Revision(n)
		img.file.NoETag, img.file.NoLastModified = true, true
		return img
	}
	sums := func(img image) server.File { return server.File{Text: f.SHA256(img.disk) + "  disk\n"} }
	all := []image{bare(0), bare(1), bare(2)}
	file := f.Serve("disk", all[0].file)
	f.Cron(cron, httpSource(file.URL), func(cron *cdiv1.DataImportCron) {
		cron.Spec.GarbageCollect, cron.Spec.ImportsToKeep = ptr.To(cdiv1.DataImportCronGarbageCollectNever), ptr.To[int32](1)
	})
	f.WaitPollFails(cron, "NoValidator")
	published := f.Serve("SHA256SUMS", sums(all[0]))
	f.AnnotateCron(cron, golden.AnnotationChecksumURL, published.URL)
	f.PollNow(cron)
	claims := []claim{f.WaitRolled(cron)}
	f.RequirePollWithoutChange(cron)
	for _, img := range all[1:] {
		file.Publish(img.file)
		published.Publish(sums(img))
		f.PollNow(cron)
		claims = append(claims, f.WaitRolled(cron, claims...))
	}
	f.WaitGoldenClaims(cron, claims...)
	for n, c := range claims {
		require.Contains(t, f.PVC(c).Annotations[golden.AnnotationRevision], f.SHA256(all[n].disk))
		f.RequireDisk(c, all[n].disk)
	}
}
