// Package golden is what the poller and the populator agree on: the revision that a
// golden claim is pinned to, and the names, labels and annotations of golden claims and
// their DataImportCrons. KubeVirt's users know most of the names from CDI.
package golden

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// The kinds of KubeVirt that claims are filled from, in the group Group.
const (
	Group          = "cdi.kubevirt.io"
	CronKind       = "DataImportCron"
	DataSourceKind = "DataSource"
)

// Annotations of a DataImportCron.
const (
	// AnnotationDesiredDigest names the revision that the cron should have imported. The
	// poller writes it; with an empty schedule it is written by hand.
	AnnotationDesiredDigest = "cdi.kubevirt.io/storage.import.sourceDesiredDigest"
	// AnnotationLastCronTime and AnnotationNextCronTime are when the last poll was and the
	// next one is due, in RFC 3339 and UTC.
	AnnotationLastCronTime = "cdi.kubevirt.io/storage.import.lastCronTime"
	AnnotationNextCronTime = "cdi.kubevirt.io/storage.import.nextCronTime"
	// AnnotationImageStreamRef is the image that an image stream led to.
	AnnotationImageStreamRef = "cdi.kubevirt.io/storage.import.imageStreamDockerRef"
	// AnnotationPolled is the newest Revision that a poll has found, as JSON. It belongs to
	// the desired digest.
	AnnotationPolled = "gild.dev/polled"
	// AnnotationImported is the Revision of the last import that has succeeded, as JSON. The
	// next conditional request carries its validators.
	AnnotationImported = "gild.dev/imported"
	// AnnotationPollNow has a cron polled at once, whenever its value changes.
	AnnotationPollNow = "gild.dev/poll-now"
	// AnnotationChecksumURL is a file that publishes the digest of the source, for servers
	// without validators: SHA256SUMS, or a *.CHECKSUM file.
	AnnotationChecksumURL = "gild.dev/checksum-url"
)

// Annotations and labels of a golden claim, and of the DataSource that names it.
const (
	// AnnotationRevision is the Revision that a golden claim holds, as JSON.
	AnnotationRevision = "gild.dev/revision"
	// AnnotationVerified is set once a golden claim is bound to the volume that its import
	// has filled: the digest of the bytes as served, or "true" when none was computed. See FilledByCDI.
	AnnotationVerified = "gild.dev/verified"
	// AnnotationLastUseTime is when a golden claim became the current one, in RFC 3339 with
	// nanoseconds and UTC.
	AnnotationLastUseTime = "cdi.kubevirt.io/storage.import.lastUseTime"
	// AnnotationBindImmediately has a claim filled before anything uses it.
	AnnotationBindImmediately = "cdi.kubevirt.io/storage.bind.immediate.requested"
	// LabelCron is the name of the DataImportCron.
	LabelCron = "cdi.kubevirt.io/dataImportCron"
	// LabelCleanup marks what goes with its DataImportCron: retentionPolicy None.
	LabelCleanup = "cdi.kubevirt.io/dataImportCron.cleanup"
)

// The prefixes of digests.
const (
	// PrefixSHA256 begins the digest of an image, or of the validators of a file.
	PrefixSHA256 = "sha256:"
	// PrefixUID begins the UID of a claim that is the source.
	PrefixUID = "uid:"
)

// nameDigits is how much of a digest stands in the name of a golden claim.
const nameDigits = 12

// ClaimName is the name of the golden claim of a revision: that of the DataSource and the
// first 12 digits of the digest, as CDI has it.
func ClaimName(dataSource, digest string) string {
	_, digits, _ := strings.Cut(digest, ":")
	return dataSource + "-" + digits[:min(nameDigits, len(digits))]
}

// SecondClaimName is the name of a copy of a revision on another StorageClass than that of
// the claim which bears ClaimName.
func SecondClaimName(dataSource, digest, class string) string {
	sum := sha256.Sum256([]byte(digest + "\n" + class))
	return ClaimName(dataSource, PrefixSHA256+hex.EncodeToString(sum[:]))
}
