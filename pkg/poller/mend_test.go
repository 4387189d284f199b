package poller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/golden"
)

// askAgain does what the roller does when an import has met another state than was polled.
func (w *world) askAgain() {
	w.t.Helper()
	w.edit(func(cron *cdiv1.DataImportCron) {
		cron.Annotations[golden.AnnotationPollNow] = sourceChanged + "9f86d081884c-uid"
	})
	w.look()
}

// TestSourceChangedIsAskedAsAnImportAsks: a server whose HEAD tells of another file than its GET is
// asked by GET from then on, also when the first try fails, until the source is edited.
func TestSourceChangedIsAskedAsAnImportAsks(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.importPolled()
	require.False(t, w.site.files[0].Fresh)
	w.site.err = &answer{reason: "ConnectionFailed", text: "connection refused"}
	w.askAgain()
	w.site.err, w.site.pin.ETag = nil, `"get"`
	w.pass(2 * time.Hour)
	require.GreaterOrEqual(t, len(w.site.files), 4)
	for _, r := range w.site.files[1:] {
		require.True(t, r.Fresh)
		require.Zero(t, r.Known)
	}
	require.Equal(t, `"get"`, w.polled().Pin.ETag)

	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Source.HTTP.URL += "2" })
	w.look()
	require.False(t, w.site.files[len(w.site.files)-1].Fresh)
}

// TestSourceChangedKeepsWhatWasWrittenByHand: without a schedule, the digest is the user's.
func TestSourceChangedKeepsWhatWasWrittenByHand(t *testing.T) {
	cron := fileCron()
	cron.Spec.Schedule = ""
	cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
	w := newWorld(t, cron)
	w.look()
	w.site.pin.ETag = `"b"`
	w.askAgain()
	require.Equal(t, otherDigest, w.desired())
	require.Equal(t, otherDigest, w.polled().Digest)
	require.Equal(t, `"b"`, w.polled().Pin.ETag)
	require.True(t, w.site.files[1].Fresh)
	w.look()
	require.Equal(t, 2, w.site.polls(), "it was answered")

	w.site.pin.ETag = `"c"`
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationPollNow] = "1" })
	w.look()
	require.Equal(t, digestOfPin(w), w.desired(), "the user asks for what there is now")
	w.site.pin.ETag = `"d"`
	w.askAgain()
	require.Equal(t, digestOfPin(w), w.desired(), "this digest was found, not written by hand")
}

// TestUpdateSeenBetweenFileAndChecksums plays the roller: what it holds is S1 with the validators of
// that import, and they advance only with another import.
func TestUpdateSeenBetweenFileAndChecksums(t *testing.T) {
	cron := fileCron()
	cron.Annotations[golden.AnnotationChecksumURL] = "https://images.example.org/SHA256SUMS"
	w := newWorld(t, cron)
	w.site.published = oneDigest
	w.look()
	w.importPolled()
	held := w.cron().Annotations[golden.AnnotationImported]

	w.site.pin.ETag = `"b"`
	w.pass(3 * time.Hour)
	require.Equal(t, oneDigest, w.desired())
	require.Equal(t, held, w.cron().Annotations[golden.AnnotationImported])
	w.site.published = otherDigest
	w.pass(time.Hour)
	require.Equal(t, otherDigest, w.desired())
	require.Equal(t, `"b"`, w.polled().Pin.ETag)
}

// TestChecksumFileNamedLater: the checksum that an import was compared with came from the template, so
// the published one is not known yet.
func TestChecksumFileNamedLater(t *testing.T) {
	cron := fileCron()
	cron.Spec.Template.Spec.Source.HTTP.Checksum = oneDigest
	w := newWorld(t, cron)
	w.look()
	w.importPolled()
	w.site.published = oneDigest
	w.edit(func(cron *cdiv1.DataImportCron) {
		cron.Annotations[golden.AnnotationChecksumURL] = "https://images.example.org/SHA256SUMS"
	})
	w.look()
	require.Len(t, w.site.sums, 1)
	require.Equal(t, oneDigest, w.desired())
}

// TestChecksumNamedAfterTheImport: bytes that were never compared with it are imported once more.
func TestChecksumNamedAfterTheImport(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	w.importPolled()
	first := w.desired()
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Source.HTTP.Checksum = otherDigest })
	w.look()
	compared := w.desired()
	require.NotEqual(t, first, compared)
	require.Equal(t, otherDigest, w.polled().Checksum)
	w.pass(time.Hour)
	require.Equal(t, compared, w.desired(), "while it is imported")
	w.importPolled()
	w.pass(time.Hour)
	require.Equal(t, compared, w.desired(), "afterwards")
}

// TestEditTakenBack: an outcome that an edit has made useless does not return with the earlier schedule.
func TestEditTakenBack(t *testing.T) {
	w := newWorld(t, fileCron())
	w.look()
	first := w.desired()
	w.site.pin.ETag = `"b"`
	w.site.before = func() {
		w.site.before = nil
		w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = "0 20 * * *" })
	}
	w.pass(time.Hour)
	require.Equal(t, 2, w.site.polls())
	require.Equal(t, first, w.desired(), "it was edited meanwhile")
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Schedule = fileCron().Spec.Schedule })
	w.look()
	require.Equal(t, first, w.desired(), "what was found then may be long outdated")
	w.site.pin.ETag = `"c"`
	w.pass(time.Hour)
	require.Equal(t, `"c"`, w.polled().Pin.ETag)
}
