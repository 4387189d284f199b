package v1alpha1

// DiskFormat is the format of a disk on its volume.
// +kubebuilder:validation:Enum=raw;qcow2
type DiskFormat string

// The formats a disk can have on its volume.
const (
	// DiskFormatRaw is the disk byte for byte.
	DiskFormatRaw DiskFormat = "raw"
	// DiskFormatQcow2 is a qcow2 file. Only a Filesystem volume can hold one.
	DiskFormatQcow2 DiskFormat = "qcow2"
)

// DiskSource says where a disk image is fetched from.
// +kubebuilder:validation:XValidation:rule="[has(self.http), has(self.registry), has(self.imageRef), has(self.blank)].filter(named, named).size() <= 1",message="name exactly one source: http, registry, imageRef or blank"
type DiskSource struct {
	// http fetches the image from a web server, over http or https.
	// +optional
	HTTP *HTTPSource `json:"http,omitempty"`

	// registry fetches the image from an OCI registry.
	// +optional
	Registry *RegistrySource `json:"registry,omitempty"`

	// imageRef is the short form of registry: host/name[:tag][@digest] of an image in an
	// OCI registry, read with the image pull secrets of this namespace's service account
	// "default".
	// Example: registry.example.org/disks/debian:12
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-zA-Z0-9+.-]+://')",message="imageRef is a name without docker:// or another scheme: host/name[:tag][@digest]"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z0-9+.-]+://') || self.matches('^((localhost|[a-zA-Z0-9-]+([.][a-zA-Z0-9-]+)+|[[][0-9a-fA-F:]+[]])(:[0-9]+)?|[a-zA-Z0-9-]+:[0-9]+)(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)+(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$')",message="imageRef must be host/name[:tag][@digest] in lower case, and say its registry's host, such as registry.example.org/disks/debian:12"
	// +optional
	ImageRef string `json:"imageRef,omitempty"`

	// blank is a disk of nothing but zeros. It needs a size, and may be up to 10 % smaller than
	// that where the file system of the volume leaves no more room.
	// +optional
	Blank *BlankSource `json:"blank,omitempty"`
}

// BlankSource is a disk of nothing but zeros.
type BlankSource struct{}

// HTTPSource is an image on a web server.
type HTTPSource struct {
	// url of the image, beginning with http:// or https://. A user name or
	// password does not belong in it: use secretRef.
	// Example: https://images.example.org/debian-12.qcow2
	// +kubebuilder:validation:MinLength=8
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() in ['http', 'https'] && url(self).getHost() != ''",message="url must be an http:// or https:// URL with a host"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-zA-Z]+://[^/?#]*@')",message="url must not hold a user name or password: put them in a Secret and name it in secretRef"
	URL string `json:"url"`

	// secretRef names a Secret in this namespace with the credentials: either
	// username and password (or accessKeyId and secretKey) for basic
	// authentication, or token for a bearer token. They are sent to the url's own
	// scheme, host and port only, never to where it redirects.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SecretRef string `json:"secretRef,omitempty"`

	// certConfigMap names a ConfigMap in this namespace whose values are PEM
	// certificates to trust besides the system's own.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	CertConfigMap string `json:"certConfigMap,omitempty"`

	// extraHeaders are sent with every request to the url's own host, each as
	// "Name: value". For secret values use secretExtraHeaders.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:items:Pattern=`^[A-Za-z0-9!#$%&'*+.^_|~-]+:[^\r\n]*$`
	// +listType=atomic
	// +optional
	ExtraHeaders []string `json:"extraHeaders,omitempty"`

	// secretExtraHeaders names Secrets in this namespace; each of their values
	// is one header, written as "Name: value".
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	// +listType=atomic
	// +optional
	SecretExtraHeaders []string `json:"secretExtraHeaders,omitempty"`
}

// PullMethod says who pulls an image.
// +kubebuilder:validation:Enum=pod;node
type PullMethod string

// Who pulls an image.
const (
	// PullMethodPod has the importer pull it.
	PullMethodPod PullMethod = "pod"
	// PullMethodNode has the node pull it, as it pulls the images of containers.
	PullMethodNode PullMethod = "node"
)

// ImageContent says what of an image is imported.
// +kubebuilder:validation:Enum=auto;disk;rootfs;files
type ImageContent string

// What of an image is imported.
const (
	// ImageContentAuto finds it out: the disk in the image, or its root file system.
	ImageContentAuto ImageContent = "auto"
	// ImageContentDisk is the disk image in it.
	ImageContentDisk ImageContent = "disk"
	// ImageContentRootfs is a disk made of its root file system.
	ImageContentRootfs ImageContent = "rootfs"
	// ImageContentFiles is its root file system as plain files.
	ImageContentFiles ImageContent = "files"
)

// RegistrySource is an image in an OCI registry.
// +kubebuilder:validation:XValidation:rule="has(self.url) != has(self.imageStream)",message="name exactly one image: url or imageStream"
// +kubebuilder:validation:XValidation:rule="self.?pullMethod.orValue('pod') == 'pod' || self.?content.orValue('auto') in ['auto', 'disk']",message="pullMethod node reads disks only: for content rootfs or files use pullMethod pod"
// +kubebuilder:validation:XValidation:rule="self.?pullMethod.orValue('pod') == 'pod' || !has(self.certConfigMap)",message="certConfigMap does not go with pullMethod node, which trusts what the node trusts: use pullMethod pod"
type RegistrySource struct {
	// url of the image: docker://host/name[:tag][@digest]. Without tag and digest the tag
	// is latest. A user name or password does not belong in it: use secretRef.
	// Example: docker://registry.example.org/disks/debian:12
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="!self.matches('^[a-zA-Z]+://[^/]*@')",message="url must not hold a user name or password: put them in a Secret and name it in secretRef"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-zA-Z]+://[^/]*@') || self.matches('^docker://((localhost|[a-zA-Z0-9-]+([.][a-zA-Z0-9-]+)+|[[][0-9a-fA-F:]+[]])(:[0-9]+)?|[a-zA-Z0-9-]+:[0-9]+)(/[a-z0-9]+(([.]|_|__|-+)[a-z0-9]+)*)+(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(@(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}))?$')",message="url must be docker://host/name[:tag][@digest] in lower case, such as docker://registry.example.org/disks/debian:12"
	// +optional
	URL string `json:"url,omitempty"`

	// imageStream names an OpenShift ImageStream in this namespace, as name or name:tag;
	// without a tag it is latest. It is looked up once for each import.
	// Example: debian:12
	// +kubebuilder:validation:MaxLength=384
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?$')",message="imageStream must be name or name:tag"
	// +optional
	ImageStream string `json:"imageStream,omitempty"`

	// pullMethod says who pulls the image: pod (the importer, which reads no more of it than
	// it needs) or node (the kubelet, with the node's credentials, mirrors and cache; needs
	// Kubernetes 1.36, and reads only disks below /disk).
	// +kubebuilder:default=pod
	// +optional
	PullMethod PullMethod `json:"pullMethod,omitempty"`

	// secretRef names a Secret in this namespace with the credentials: one of type
	// kubernetes.io/dockerconfigjson, username and password (or accessKeyId and secretKey), or
	// with pullMethod pod a token. They are sent to the registry only, never to where it redirects. Without secretRef the
	// image pull secrets of this namespace's service account "default" are used.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	SecretRef string `json:"secretRef,omitempty"`

	// certConfigMap names a ConfigMap in this namespace whose values are PEM certificates to
	// trust besides the system's own. Not with pullMethod node.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	CertConfigMap string `json:"certConfigMap,omitempty"`

	// platform chooses among the images of an index. The default is the platform of the node
	// that imports.
	// +optional
	Platform *ImagePlatform `json:"platform,omitempty"`

	// content says what of the image is imported: disk (the one file below /disk, or the
	// disk of an artifact), rootfs (a disk with an ext4 file system that holds the image's
	// files), files (the image's files as they are, on a Filesystem volume), or auto: the
	// disk in the image, and where there is none the rootfs.
	// +kubebuilder:default=auto
	// +optional
	Content ImageContent `json:"content,omitempty"`
}

// ImagePlatform is what an image runs on. Its operating system is Linux.
type ImagePlatform struct {
	// architecture as image indexes name it, such as amd64 or arm64. With pullMethod node it
	// also chooses the node.
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:Pattern=`^[a-z0-9]+$`
	// +optional
	Architecture string `json:"architecture,omitempty"`
}
