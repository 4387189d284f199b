//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/test/imageserver/server"
)

// bad is a source that an import must refuse.
type bad struct {
	reason string
	// make sets the source up and returns its URL and what else the spec needs.
	make func(*fixture) (url string, edit func(*v1alpha1.VMDiskImageSpec))
	// mend takes the cause away; nil means by the URL of a good image and no checksum.
	mend func(*fixture)
}

// file makes the source of a bad image that is just one file.
func file(describe func(*fixture) server.File) func(*fixture) (string, func(*v1alpha1.VMDiskImageSpec)) {
	return func(f *fixture) (string, func(*v1alpha1.VMDiskImageSpec)) {
		return f.Serve("bad", describe(f)).URL, func(*v1alpha1.VMDiskImageSpec) {}
	}
}

// qcow2File makes the source of a qcow2 image that damage has changed.
func qcow2File(damage func([]byte) []byte, options ...string) func(*fixture) (string, func(*v1alpha1.VMDiskImageSpec)) {
	return file(func(f *fixture) server.File {
		return server.File{Blob: f.Upload("bad.qcow2", damage(f.convert(f.Disk(diskSize), "qcow2", options...)))}
	})
}

// cutAt keeps the first n bytes.
func cutAt(n int64) func([]byte) []byte {
	return func(content []byte) []byte { return content[:n] }
}

// TestRefuses imports what must not become a disk. Each import ends with its reason after one attempt,
// the claim unbound and nothing left; once the cause is mended it starts anew and the claim
// is bound to the right disk.
func TestRefuses(t *testing.T) {
	t.Parallel()
	const secret = "login"
	for name, test := range map[string]bad{
		"unknown host": {reason: "HostNotFound", make: func(f *fixture) (string, func(*v1alpha1.VMDiskImageSpec)) {
			return "http://no-such-host." + f.webNamespace() + ".svc/disk", func(*v1alpha1.VMDiskImageSpec) {}
		}},
		"404": {reason: "NotFound", make: file(func(*fixture) server.File {
			return server.File{Status: http.StatusNotFound}
		})},
		"410": {reason: "NotFound", make: file(func(*fixture) server.File {
			return server.File{Status: http.StatusGone}
		})},
		"403": {reason: "AuthenticationFailed", make: file(func(*fixture) server.File {
			return server.File{Status: http.StatusForbidden}
		})},
		"401, mended by the Secret": {reason: "AuthenticationFailed",
			make: func(f *fixture) (string, func(*v1alpha1.VMDiskImageSpec)) {
				img := f.Raw(diskSize)
				img.file.Need = map[string]string{"Authorization": "Bearer " + f.right()}
				f.Secret(secret, map[string]string{"token": f.Canary()})
				return f.Serve("bad", img.file).URL, func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.HTTP.SecretRef = secret }
			},
			mend: func(f *fixture) { f.Secret(secret, map[string]string{"token": f.right()}) }},
		"401 without a Secret": {reason: "AuthenticationFailed", make: file(func(f *fixture) server.File {
			img := f.Raw(diskSize)
			img.file.Need = map[string]string{"Authorization": "Bearer " + f.right()}
			return img.file
		})},
		"wrong CA, mended by the ConfigMap": {reason: "CertificateError",
			make: func(f *fixture) (string, func(*v1alpha1.VMDiskImageSpec)) {
				other, err := newCertificate("*." + f.webNamespace() + ".svc")
				require.NoError(f, err)
				f.ConfigMap("ca", map[string]string{"ca.pem": string(other.ca)})
				return f.Serve("bad", f.Raw(diskSize).file).TLS(), func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.HTTP.CertConfigMap = "ca" }
			},
			mend: func(f *fixture) { f.ConfigMap("ca", map[string]string{"ca.pem": f.WebCA()}) }},
		"HTML login page": {reason: "UnexpectedContent", make: file(func(*fixture) server.File {
			page := "<!DOCTYPE html>\n<html><head><title>Log in</title></head><body><form></form></body></html>\n"
			return server.File{ContentType: "text/html; charset=utf-8", Text: page + strings.Repeat("<!-- -->", 1000)}
		})},
		"HTML login page that says it is a disk": {reason: "UnexpectedContent", make: file(func(*fixture) server.File {
			return server.File{Text: "<html><body>Log in</body></html>" + strings.Repeat("\n", 1000)}
		})},
		"empty body": {reason: "EmptySource", make: file(func(*fixture) server.File { return server.File{} })},
		"checksum mismatch of raw": {reason: "ChecksumMismatch", make: func(f *fixture) (string, func(*v1alpha1.VMDiskImageSpec)) {
			return f.Serve("bad", f.Raw(diskSize).file).URL, wrongChecksum
		}},
		"checksum mismatch of qcow2": {reason: "ChecksumMismatch", make: func(f *fixture) (string, func(*v1alpha1.VMDiskImageSpec)) {
			return f.Serve("bad", f.Qcow2(diskSize).file).URL, wrongChecksum
		}},
		"qcow2 cut in its header":      {reason: "TruncatedImage", make: qcow2File(cutAt(104))},
		"qcow2 cut behind its header":  {reason: "TruncatedImage", make: qcow2File(cutAt(64 << 10))},
		"qcow2 cut behind its tables":  {reason: "TruncatedImage", make: qcow2File(cutAt(256 << 10))},
		"qcow2 cut in the middle":      {reason: "TruncatedImage", make: qcow2File(func(content []byte) []byte { return content[:len(content)/2] })},
		"qcow2 cut in its last sector": {reason: "TruncatedImage", make: qcow2File(func(content []byte) []byte { return content[:len(content)-512] })},
		"compressed qcow2 cut":         {reason: "TruncatedImage", make: qcow2File(func(content []byte) []byte { return content[:len(content)-8192] }, "-c")},
		"qcow2 with a backing file":    {reason: "UnsafeImage", make: file(func(f *fixture) server.File { return f.backed() })},
		"qcow2 larger than the claim on Block": {reason: "TooLarge", make: file(func(f *fixture) server.File {
			return f.Qcow2(claimSize + mib).file
		})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			url, edit := test.make(f)
			f.VMDiskImage("image", url, edit)
			c := f.Claim("disk", "image", block)
			failed := f.RequireFailed(c, test.reason)
			if test.mend != nil {
				test.mend(f)
			} else {
				good := f.Serve("good", f.Raw(diskSize).file).URL
				f.EditImage("image", func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.HTTP.URL, spec.Checksum = good, "" })
			}
			f.WaitAnew(c, failed)
			f.RequireDone(c, f.Raw(diskSize))
		})
	}
}

// right is the one right secret of the test.
func (f *fixture) right() string { return f.canaryStem() + "right" }

func wrongChecksum(spec *v1alpha1.VMDiskImageSpec) {
	spec.Checksum = "sha256:" + strings.Repeat("00", 32)
}

// backed serves it.
func (f *fixture) backed() server.File {
	f.Helper()
	return server.File{Blob: f.Upload("backed.qcow2", f.backedContent())}
}

// backedContent is a qcow2 image that names a backing file which is there in every importer.
func (f *fixture) backedContent() []byte {
	f.Helper()
	path := filepath.Join(f.TempDir(), "backed.qcow2")
	f.qemuImg("create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/passwd", path, fmt.Sprint(diskSize))
	content, err := os.ReadFile(path)
	require.NoError(f, err)
	return content
}

// TestRefusesWhatDoesNotFit refuses a disk that is too large before the download, and says a
// size that is enough.
func TestRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	const large = 2 * claimSize
	for name, edit := range map[string]func(*corev1.PersistentVolumeClaim){
		"Filesystem": func(*corev1.PersistentVolumeClaim) {},
		"Block":      block,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := f.Raw(large)
			// Slow, so that the bytes on their way when the importer hangs up are few.
			slow := img.file
			slow.BytesPerSecond = mib / 4
			source := f.Serve("disk", slow)
			f.VMDiskImage("image", source.URL)
			small := f.Claim("small", "image", edit)
			imp := f.RequireFailed(small, "TooLarge")
			require.Less(t, source.Bytes(), mib, "no more than the header is read")

			enough := sizeIn(t, ready(imp).Message, large)
			source.Publish(img.file)
			c := f.Claim("enough", "image", edit, ofSize(enough))
			f.RequireDone(c, img)
		})
	}
}
