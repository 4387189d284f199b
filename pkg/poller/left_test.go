package poller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// leftByCDI is a cron as CDI leaves it, which has imported the image of a digest.
func leftByCDI(cron *cdiv1.DataImportCron, digest string) *cdiv1.DataImportCron {
	name := golden.ClaimName("fedora", digest)
	cron.Annotations[golden.AnnotationDesiredDigest] = digest
	cron.Annotations[golden.AnnotationLastCronTime] = "2020-01-01T01:00:00+01:00"
	cron.Status.LastImportedPVC = &cdiv1.DataVolumeSourcePVC{Namespace: "golden", Name: name}
	cron.Status.CurrentImports = []cdiv1.ImportStatus{{DataVolumeName: name, Digest: digest}}
	return cron
}

// TestLeftByCDI: what CDI has found is taken without the network, and the source is asked right after.
func TestLeftByCDI(t *testing.T) {
	w := newWorld(t, leftByCDI(registryCron(), otherDigest))
	w.site.image = ImageFound{Digest: oneDigest, Index: otherDigest}
	var first string
	w.view = func(cron *cdiv1.DataImportCron) {
		if first == "" {
			first = cron.Annotations[golden.AnnotationPolled]
		}
	}
	w.look()
	revision, err := golden.ParseRevision(first)
	require.NoError(t, err)
	require.Equal(t, otherDigest, revision.Digest)
	require.Equal(t, "docker://registry.example.org:5000/disks/fedora@"+otherDigest, revision.Source.Registry.URL)
	w.pass(time.Second)
	require.Len(t, w.site.images, 1)
	require.Equal(t, oneDigest, w.desired())
	require.Equal(t, otherDigest, w.polled().Index)
	w.pass(time.Minute)
	require.Len(t, w.site.images, 1, "the next one is when the schedule says")
}

// TestLeftByCDIWithoutALogin: what CDI has found stays, and that the source cannot be asked is said.
func TestLeftByCDIWithoutALogin(t *testing.T) {
	w := newWorld(t, leftByCDI(registryCron(), otherDigest))
	w.site.err = &answer{reason: "AuthenticationFailed", text: "the registry refuses"}
	w.pass(time.Second)
	require.Len(t, w.site.images, 1)
	require.Equal(t, otherDigest, w.desired())
	require.Equal(t, otherDigest, w.polled().Digest)
	w.requireCondition(corev1.ConditionFalse, "AuthenticationFailed")
}

// TestLeftByCDIByHand: without a schedule, the digest is the user's.
func TestLeftByCDIByHand(t *testing.T) {
	cron := leftByCDI(registryCron(), otherDigest)
	cron.Spec.Schedule = ""
	w := newWorld(t, cron)
	w.pass(24 * time.Hour)
	require.Empty(t, w.site.images)
	require.Equal(t, otherDigest, w.polled().Digest)
}

// TestLeftByCDIOfAClaimThatIsGone: the claim that CDI has copied has gone, and another one bears its name.
func TestLeftByCDIOfAClaimThatIsGone(t *testing.T) {
	cron := fileCron()
	cron.Spec.Template.Spec.Source = &cdiv1.DataVolumeSource{PVC: &cdiv1.DataVolumeSourcePVC{Name: "gold"}}
	claim := &corev1.PersistentVolumeClaim{}
	claim.Namespace, claim.Name, claim.UID = "golden", "gold", "7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d11"
	w := newWorld(t, leftByCDI(cron, "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"), claim)
	w.pass(time.Second)
	require.Equal(t, "uid:"+string(claim.UID), w.desired())
}

// TestLeftByCDIOfAFile: a digest that was written by hand names the file as it is at the first poll.
func TestLeftByCDIOfAFile(t *testing.T) {
	w := newWorld(t, leftByCDI(fileCron(), otherDigest))
	w.pass(time.Second)
	require.Equal(t, 2, w.site.polls())
	require.Equal(t, otherDigest, w.desired())
	w.site.pin.ETag = `"b"`
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationPollNow] = "1" })
	w.look()
	require.Equal(t, digestOfPin(w), w.desired())
}
