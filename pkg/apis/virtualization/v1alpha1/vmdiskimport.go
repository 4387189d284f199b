package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// VMDiskImport is the record of the import that fills one claim. Gild makes it, with the
// claim's name, as soon as it sees the claim, and it goes with the claim. Deleting it
// while the import runs or after it failed starts the import anew.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=vmdimp,categories=gild
// +kubebuilder:metadata:annotations="api-approved.kubernetes.io=unapproved, an API of the Gild project"
// +kubebuilder:metadata:labels="app.kubernetes.io/name=gild"
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.imageRef.name`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Strategy",type=string,JSONPath=`.status.strategy`
// +kubebuilder:printcolumn:name="Progress",type=string,JSONPath=`.status.progress.percent`
// +kubebuilder:printcolumn:name="Rate",type=string,JSONPath=`.status.progress.rate`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Attempts",type=integer,priority=1,JSONPath=`.status.attempts`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type VMDiskImport struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what this import does. It cannot be changed.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of an import cannot be changed: edit what its claim refers to, or delete this import to start anew"
	Spec VMDiskImportSpec `json:"spec"`
	// status tells how far it has come.
	// +optional
	Status VMDiskImportStatus `json:"status,omitempty"`
}

// VMDiskImportSpec is what one import does: the claim it fills and a copy of what its
// VMDiskImage, the revision of its DataImportCron or its DataSource asked for when the
// import began.
// +kubebuilder:validation:XValidation:rule="has(self.copyOf) || has(self.source.http) || has(self.source.registry) || has(self.source.imageRef) || has(self.source.blank)",message="name exactly one source: http, registry, imageRef or blank"
type VMDiskImportSpec struct {
	// claimRef is the claim to fill, in the same namespace.
	ClaimRef ClaimReference `json:"claimRef"`
	// imageRef is what the rest of this spec was copied from, in the same namespace.
	ImageRef ImageReference `json:"imageRef"`

	ImageSpec `json:",inline"`

	// copyOf is the volume that has the disk already. It is copied in the fastest way that
	// the storage can; source, when it is set too, is imported again if it cannot be copied.
	// +optional
	CopyOf *CopySource `json:"copyOf,omitempty"`

	// pin is the only revision of the source that may be imported: another one fails
	// the import. Golden claims are pinned to what was polled.
	// +optional
	Pin *Pin `json:"pin,omitempty"`

	// recordDigest has the sha256 of the bytes as served computed for the result, even
	// if no checksum asks for it.
	// +optional
	RecordDigest bool `json:"recordDigest,omitempty"`
}

// CopySource names for good what a disk is copied from, so that a DataSource which is
// repointed never changes a copy that runs.
type CopySource struct {
	// kind is PersistentVolumeClaim or VolumeSnapshot.
	// +kubebuilder:validation:Enum=PersistentVolumeClaim;VolumeSnapshot
	Kind string `json:"kind"`
	// namespace of the object. When it is not the claim's own, a ReferenceGrant there, or
	// the permission to create datavolumes/source there, must allow the copy.
	Namespace string `json:"namespace"`
	// name of the object.
	Name string `json:"name"`
	// uid of the object: another object of that name is not copied.
	UID types.UID `json:"uid"`
	// serviceAccountName is the service account of the claim's namespace that must have that
	// permission. The default is default.
	// +optional
	ServiceAccountName string `json:"serviceAccountName,omitempty"`
}

// The kinds of a CopySource.
const (
	CopyOfClaim    = "PersistentVolumeClaim"
	CopyOfSnapshot = "VolumeSnapshot"
)

// Strategy is the way in which a disk gets on its volume.
// +kubebuilder:validation:Enum=Snapshot;Copy;Import
type Strategy string

// The strategies, the fastest first.
const (
	// StrategySnapshot restores the volume from a snapshot, in the storage itself.
	StrategySnapshot Strategy = "Snapshot"
	// StrategyCopy reads the disk from the volume that has it.
	StrategyCopy Strategy = "Copy"
	// StrategyImport fetches it from where it came from.
	StrategyImport Strategy = "Import"
)

// Pin names one revision of a source. Fields that are not set are not checked.
type Pin struct {
	// etag is the header as served, letter for letter.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	ETag string `json:"etag,omitempty"`
	// lastModified is the header Last-Modified as served, letter for letter.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	LastModified string `json:"lastModified,omitempty"`
	// length in bytes, as served.
	// +kubebuilder:validation:Minimum=0
	// +optional
	Length int64 `json:"length,omitempty"`
	// digest of the bytes as served: sha256: or sha512: and hex digits.
	// +kubebuilder:validation:MaxLength=135
	// +optional
	Digest string `json:"digest,omitempty"`
}

// ClaimReference names one PersistentVolumeClaim for good.
type ClaimReference struct {
	// name of the claim.
	Name string `json:"name"`
	// uid of the claim: another claim of that name is not meant.
	UID types.UID `json:"uid"`
}

// ImageReference names one state of a VMDiskImage, a DataImportCron or a DataSource.
type ImageReference struct {
	// kind of the object.
	// +kubebuilder:validation:Enum=VMDiskImage;DataImportCron;DataSource
	// +kubebuilder:default=VMDiskImage
	// +optional
	Kind string `json:"kind,omitempty"`
	// name of the object.
	Name string `json:"name"`
	// uid of the object.
	UID types.UID `json:"uid"`
	// generation of the VMDiskImage that was copied; 0 for the other kinds.
	Generation int64 `json:"generation"`
	// revision of the DataImportCron or of its golden claim that was copied, by the digest
	// that names it; empty when there is none.
	// +kubebuilder:validation:MaxLength=135
	// +optional
	Revision string `json:"revision,omitempty"`
}

// ImportPhase sums an import up in one word, for people. Programs read the conditions.
// +kubebuilder:validation:Enum=Pending;Queued;Importing;Verifying;Succeeded;Failed
type ImportPhase string

// The phases of an import.
const (
	// PhasePending waits for something outside: a Secret, a volume, a node, an image pull, the next attempt.
	PhasePending ImportPhase = "Pending"
	// PhaseQueued waits for its turn among the other imports.
	PhaseQueued ImportPhase = "Queued"
	// PhaseImporting moves the disk.
	PhaseImporting ImportPhase = "Importing"
	// PhaseVerifying syncs the volume and checks what was moved.
	PhaseVerifying ImportPhase = "Verifying"
	// PhaseSucceeded has the whole disk on the volume, verified.
	PhaseSucceeded ImportPhase = "Succeeded"
	// PhaseFailed has given up. The Ready condition says why and what to do.
	PhaseFailed ImportPhase = "Failed"
)

// Condition types of VMDiskImage and VMDiskImport. They follow kstatus: Ready is always
// there, the other two only while they are True.
const (
	// ConditionReady is True when the disk is on its volume.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the import goes on or will be tried again.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when the import has failed for good.
	ConditionStalled = "Stalled"
)

// VMDiskImportStatus tells how far an import has come.
type VMDiskImportStatus struct {
	// phase sums it up in one word.
	// +optional
	Phase ImportPhase `json:"phase,omitempty"`

	// strategy is the way in which the disk gets on its volume.
	// +optional
	Strategy Strategy `json:"strategy,omitempty"`

	// passedOver are the strategies that cannot be used here, or that did not start in time.
	// +listType=map
	// +listMapKey=strategy
	// +optional
	PassedOver []PassedOver `json:"passedOver,omitempty"`

	// reuses is the import of the same VMDiskImage from whose snapshot the volume is restored, or
	// that is waited for to make one.
	// +optional
	Reuses *ImportReference `json:"reuses,omitempty"`

	// progress of the attempt that runs, or of the last one.
	// +optional
	Progress *ImportProgress `json:"progress,omitempty"`

	// attempts made so far, the running one included.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`

	// nextAttemptTime is when the next attempt starts, after one that failed for a
	// reason that may pass.
	// +optional
	NextAttemptTime *metav1.Time `json:"nextAttemptTime,omitempty"`

	// lastFailure says why the last attempt that failed did.
	// +optional
	LastFailure *ImportFailure `json:"lastFailure,omitempty"`

	// result of the import, once it has succeeded.
	// +optional
	Result *ImportResult `json:"result,omitempty"`

	// scratchRequired is true once an attempt found an image that can neither be read at
	// random nor in one pass. The attempts after it get scratch space.
	// +optional
	ScratchRequired bool `json:"scratchRequired,omitempty"`

	// targetUID is the UID of PVC', the claim in the system namespace that the last
	// attempt wrote to. Its volume becomes that of the claim.
	// +optional
	TargetUID types.UID `json:"targetUID,omitempty"`

	// volumeName is the PersistentVolume that holds the disk, once the import has succeeded.
	// A claim that is bound to another one does not hold the disk.
	// +optional
	VolumeName string `json:"volumeName,omitempty"`

	// resolvedReference is the image that the source's imageStream named when the import
	// began. All its attempts read this one.
	// +optional
	ResolvedReference string `json:"resolvedReference,omitempty"`

	// references are the Secrets and ConfigMaps that the last attempt used, and the service
	// account whose image pull secrets it used. A failed import starts anew when one of them
	// changes.
	// +kubebuilder:validation:MaxItems=32
	// +listType=atomic
	// +optional
	References []ObservedReference `json:"references,omitempty"`

	// conditions: Ready, and while they apply Reconciling and Stalled.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ImportReference names one VMDiskImport of the same namespace for good.
type ImportReference struct {
	// name of the VMDiskImport.
	Name string `json:"name"`
	// uid of the VMDiskImport: another one of that name is not meant.
	UID types.UID `json:"uid"`
}

// PassedOver says why a strategy is not used.
type PassedOver struct {
	// strategy that is not used.
	Strategy Strategy `json:"strategy"`
	// message says why, and what would make it possible.
	Message string `json:"message"`
}

// ImportProgress says how much of a disk has been moved. It is written at most once
// in five seconds.
type ImportProgress struct {
	// totalBytes of the source, as served. Absent when the source does not say.
	// +optional
	TotalBytes int64 `json:"totalBytes,omitempty"`
	// transferredBytes have been read from the source.
	// +optional
	TransferredBytes int64 `json:"transferredBytes,omitempty"`
	// writtenBytes have been written to the volume; holes are not written.
	// +optional
	WrittenBytes int64 `json:"writtenBytes,omitempty"`
	// percent of the work that is done, such as "42%"; absent when totalBytes is.
	// +optional
	Percent string `json:"percent,omitempty"`
	// rate at which bytes arrive, such as "98 MiB/s".
	// +optional
	Rate string `json:"rate,omitempty"`
}

// ImportFailure says why an attempt failed.
type ImportFailure struct {
	// reason in one word; docs/importer.md lists them.
	Reason string `json:"reason"`
	// message says which side failed and what to do.
	// +optional
	Message string `json:"message,omitempty"`
	// time at which it failed.
	Time metav1.Time `json:"time"`
}

// ImportResult is what the importer found out about a disk that it imported.
type ImportResult struct {
	// content is what was found in a container image: containerDisk, artifact, rootfs or files.
	// +optional
	Content string `json:"content,omitempty"`
	// sourceFormat is the format the image was served in.
	// +optional
	SourceFormat string `json:"sourceFormat,omitempty"`
	// format of the disk on the volume: raw or qcow2. Absent when there is no disk, or when
	// nobody knows its format.
	// +optional
	Format DiskFormat `json:"format,omitempty"`
	// virtualSize of the disk in bytes.
	// +optional
	VirtualSize int64 `json:"virtualSize,omitempty"`
	// digest of the image: of its manifest in a registry, or of the file as served when a
	// checksum or recordDigest asked for it.
	// +optional
	Digest string `json:"digest,omitempty"`
	// etag of the image that was imported, as the server spells it.
	// +optional
	ETag string `json:"etag,omitempty"`
	// lastModified of the image that was imported, as the server spells it.
	// +optional
	LastModified string `json:"lastModified,omitempty"`
	// transferredBytes were read from the source by the last attempt.
	// +optional
	TransferredBytes int64 `json:"transferredBytes,omitempty"`
	// writtenBytes were written to the volume by the last attempt.
	// +optional
	WrittenBytes int64 `json:"writtenBytes,omitempty"`
	// scratchBytes were needed for the time of the import.
	// +optional
	ScratchBytes int64 `json:"scratchBytes,omitempty"`
	// passes is how often the source was read: 2 for an image whose tables come after its data.
	// +optional
	Passes int64 `json:"passes,omitempty"`
	// seconds that the last attempt took, such as "12.5".
	// +optional
	Seconds string `json:"seconds,omitempty"`
	// time at which the import succeeded.
	Time metav1.Time `json:"time"`
}

// ObservedReference is the state of an object that an attempt used.
type ObservedReference struct {
	// kind is Secret, ConfigMap or ServiceAccount.
	Kind string `json:"kind"`
	// name of the object, in the claim's namespace.
	Name string `json:"name"`
	// resourceVersion of the object when it was read; empty when there was none and none was
	// needed.
	ResourceVersion string `json:"resourceVersion"`
}

// VMDiskImportList is a list of VMDiskImports.
//
// +kubebuilder:object:root=true
type VMDiskImportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VMDiskImport `json:"items"`
}
