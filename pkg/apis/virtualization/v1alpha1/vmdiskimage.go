package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// VMDiskImage says where the disk of a virtual machine comes from. A claim whose
// dataSourceRef names it is bound to a volume that holds exactly that disk, or
// says why not.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=vmdi,categories=gild
// +kubebuilder:metadata:annotations="api-approved.kubernetes.io=unapproved, an API of the Gild project"
// +kubebuilder:metadata:labels="app.kubernetes.io/name=gild"
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.spec.source..['url','imageRef','imageStream']`
// +kubebuilder:printcolumn:name="Format",type=string,JSONPath=`.spec.format`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Last import",type=string,priority=1,JSONPath=`.status.lastImport.name`
// +kubebuilder:printcolumn:name="Digest",type=string,priority=1,JSONPath=`.status.lastImport.digest`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type VMDiskImage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says where the image is and what shall be on the volume.
	Spec VMDiskImageSpec `json:"spec"`
	// status tells how its newest import went.
	// +optional
	Status VMDiskImageStatus `json:"status,omitempty"`
}

// VMDiskImageSpec says where an image is and what shall be on the volume.
// +kubebuilder:validation:XValidation:rule="has(self.source.http) || has(self.source.registry) || has(self.source.imageRef) || has(self.source.blank)",message="name exactly one source: http, registry, imageRef or blank"
type VMDiskImageSpec struct {
	ImageSpec `json:",inline"`
}

// ImageSpec is what a VMDiskImage asks for. A VMDiskImport holds a copy of it, so
// that an edit never changes an import that runs.
// +kubebuilder:validation:XValidation:rule="!has(self.checksum) || !has(self.source.registry) && !has(self.source.imageRef)",message="checksum does not go with an image of a registry, whose digests are always checked: pin it with @sha256:… in its reference"
// +kubebuilder:validation:XValidation:rule="self.source.?registry.?content.orValue('auto') != 'files' || self.?format.orValue('raw') != 'qcow2'",message="format qcow2 does not go with content files, which makes no disk"
// +kubebuilder:validation:XValidation:rule="self.source.?registry.?content.orValue('auto') != 'files' || !has(self.size)",message="size does not go with content files, which makes no disk: the claim says how large the volume is"
// +kubebuilder:validation:XValidation:rule="!has(self.source.blank) || has(self.size)",message="a blank disk needs a size: say how large it is"
// +kubebuilder:validation:XValidation:rule="!has(self.source.blank) || !has(self.checksum)",message="checksum does not go with a blank disk, of which nothing is fetched"
type ImageSpec struct {
	// source says where the image is fetched from.
	Source DiskSource `json:"source"`

	// checksum of the image file as it is served (compressed if it is served
	// compressed): sha256 or sha512, a colon and the hexadecimal digest. An image
	// with another checksum is refused. Not for images of a registry: their digests are
	// always checked.
	// Example: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
	// +kubebuilder:validation:Pattern=`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`
	// +optional
	Checksum string `json:"checksum,omitempty"`

	// format of the disk on the volume: raw or qcow2. It does not name the format
	// of the source, which is found out. qcow2 needs a Filesystem volume.
	// +kubebuilder:default=raw
	// +optional
	Format DiskFormat `json:"format,omitempty"`

	// size is the virtual size of the disk, in bytes or with a suffix such as Gi,
	// when it shall be larger than the image. The default is the image's own
	// size; a smaller one is refused. A disk made of an image's files has this size.
	// Example: 20Gi
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0'))",message="size must be greater than zero"
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`

	// reuse says whether claims that ask for this image at the same time share one download.
	// With Auto one of them imports it, and the volumes of the others are restored from a
	// snapshot of its volume where the storage driver can: each of them has first to prove, with
	// its own credentials, that the source still serves what was imported. With Never each
	// claim imports the image itself.
	// +kubebuilder:default=Auto
	// +optional
	Reuse Reuse `json:"reuse,omitempty"`
}

// Reuse says whether claims share one download.
// +kubebuilder:validation:Enum=Auto;Never
type Reuse string

// The values of Reuse.
const (
	// ReuseAuto shares a download where the storage can.
	ReuseAuto Reuse = "Auto"
	// ReuseNever has each claim import the image itself.
	ReuseNever Reuse = "Never"
)

// VMDiskImageStatus tells how the newest import of an image went.
type VMDiskImageStatus struct {
	// observedGeneration is the generation that conditions speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions hold Ready: Unknown until a claim has asked for the image, then
	// what the newest import says of itself.
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// lastImport is the newest import that succeeded.
	// +optional
	LastImport *LastImport `json:"lastImport,omitempty"`
}

// LastImport is the newest import of an image that succeeded.
type LastImport struct {
	// name of the VMDiskImport, which is also the name of its claim.
	Name string `json:"name"`
	// digest of the image: of its manifest in a registry, or of the file as it was served
	// when a checksum was asked for.
	// +optional
	Digest string `json:"digest,omitempty"`
	// time at which it succeeded.
	Time metav1.Time `json:"time"`
}

// VMDiskImageList is a list of VMDiskImages.
//
// +kubebuilder:object:root=true
type VMDiskImageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VMDiskImage `json:"items"`
}
