//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// goesOnWithin bounds how soon an import goes on once what it waits for is there. Ten seconds are
// promised, on a machine that has time for it.
const goesOnWithin = time.Minute

// TestWaitsForItsCredentials creates them while the import waits.
func TestWaitsForItsCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason string
		edit   func(*v1alpha1.HTTPSource)
		create func(*fixture)
	}{
		"Secret": {"SecretNotFound", func(http *v1alpha1.HTTPSource) { http.SecretRef = "login" },
			func(f *fixture) { f.Secret("login", map[string]string{"token": f.right()}) }},
		"Secret with headers": {"SecretNotFound", func(http *v1alpha1.HTTPSource) { http.SecretExtraHeaders = []string{"headers"} },
			func(f *fixture) { f.Secret("headers", map[string]string{"any": "Authorization: Bearer " + f.right()}) }},
		"ConfigMap": {"ConfigMapNotFound", func(http *v1alpha1.HTTPSource) {
			http.CertConfigMap, http.SecretRef = "ca", "login"
		}, func(f *fixture) { f.ConfigMap("ca", map[string]string{"ca.crt": f.WebCA()}) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := f.Raw(diskSize)
			img.file.Need = map[string]string{"Authorization": "Bearer " + f.right()}
			source := f.Serve("disk", img.file)
			url := source.URL
			if test.reason == "ConfigMapNotFound" {
				url = source.TLS()
				f.Secret("login", map[string]string{"token": f.right()})
			}
			f.VMDiskImage("image", url, func(spec *v1alpha1.VMDiskImageSpec) { test.edit(spec.Source.HTTP) })
			c := f.Claim("disk", "image", block)
			imp := f.RequireWaiting(c, test.reason)
			require.EqualValues(t, 0, imp.Status.Attempts)
			require.Empty(t, source.Requests(), "nothing is asked for without them")
			test.create(f)
			f.WaitImport(c, "going on", goesOnWithin, func(imp *v1alpha1.VMDiskImport) bool { return ready(imp).Reason != test.reason })
			f.RequireDone(c, img)
		})
	}
}

func TestWaitsForItsStorageClass(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	name := f.NewClassName()
	c := f.Claim("disk", "image", ofClass(name))
	f.RequireWaiting(c, "StorageClassNotFound")
	f.CopyClass(name, func(class *storagev1.StorageClass) {
		class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
	})
	f.RequireDone(c, img)
}

func TestWaitsForItsImage(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.Raw(diskSize)
	c := f.Claim("disk", "image")
	f.WaitEvent(c, "VMDiskImageNotFound", "image")
	f.VMDiskImage("image", f.Serve("disk", img.file).URL)
	f.RequireDone(c, img)
}

// TestWaitsInLine runs more imports from one host than may run at once.
func TestWaitsInLine(t *testing.T) {
	f := start(t)
	img := f.Raw(diskSize)
	source := f.Serve("disk", img.Held())
	// One download for all of them would need one place.
	f.VMDiskImage("image", source.URL, func(spec *v1alpha1.VMDiskImageSpec) { spec.Reuse = v1alpha1.ReuseNever })
	var claims []claim
	for n := range importsPerHost {
		claims = append(claims, f.Claim(fmt.Sprintf("first-%d", n), "image", block))
	}
	for _, c := range claims {
		f.WaitReason(c, "Importing")
	}
	last := f.Claim("last", "image", block)
	imp := f.WaitReason(last, "Queued")
	require.Equal(t, v1alpha1.PhaseQueued, imp.Status.Phase)
	require.EqualValues(t, 0, imp.Status.Attempts)
	source.Publish(img.file)
	for _, c := range append(claims, last) {
		f.RequireBound(c)
	}
	f.RequireDisk(last, img.disk)
	for _, c := range append(claims, last) {
		f.RequireNothingLeft(c)
	}
}
