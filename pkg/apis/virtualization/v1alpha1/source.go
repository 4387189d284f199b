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
// +kubebuilder:validation:XValidation:rule="has(self.http)",message="name exactly one source: http"
type DiskSource struct {
	// http fetches the image from a web server, over http or https.
	// +optional
	HTTP *HTTPSource `json:"http,omitempty"`
}

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
