package poller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/pkg/grant"
	"github.com/gild-project/gild/pkg/imagestream"
)

func registryCron() *cdiv1.DataImportCron {
	cron := fileCron()
	cron.Spec.Template.Spec.Source = registryAt("docker://registry.example.org:5000/disks/fedora:latest")
	return cron
}

func TestImageIsPolled(t *testing.T) {
	const config = `{"auths":{"registry.example.org:5000":{"auth":"cmVhZGVyOnB3"}}}`
	account := &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
	}
	cron := registryCron()
	cron.Spec.Template.Spec.Source.Registry.Platform = &cdiv1.PlatformOptions{Architecture: "arm64"}
	w := newWorld(t, cron, account, secretOf("pull", map[string]string{".dockerconfigjson": config}))
	w.site.image = ImageFound{Digest: oneDigest, Index: otherDigest}
	w.look()
	require.Equal(t, []ImageRequest{{
		Access:    Access{Secret: map[string][]byte{".dockerconfigjson": []byte(config)}},
		Reference: "docker://registry.example.org:5000/disks/fedora:latest", Platform: "linux/arm64",
	}}, w.site.images)
	require.Equal(t, oneDigest, w.desired())
	require.Equal(t, "docker://registry.example.org:5000/disks/fedora@"+oneDigest, w.polled().Source.Registry.URL)
	require.Equal(t, otherDigest, w.polled().Index)

	w.importPolled()
	w.site.image.Digest = otherDigest
	w.pass(time.Hour)
	require.Equal(t, oneDigest, w.site.images[1].KnownDigest)
	require.Equal(t, otherDigest, w.site.images[1].KnownIndex)
	w.requireCondition(corev1.ConditionTrue, reasonChanged)
}

// TestSeedsFollowEachOther: the cron of seed 000, polled by hand, becomes that of seed 001.
func TestSeedsFollowEachOther(t *testing.T) {
	cron := fileCron()
	cron.Spec.Schedule = ""
	w := newWorld(t, cron)
	w.look()
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest })
	w.look()
	w.importPolled()
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec = registryCron().Spec })
	w.site.image.Digest = oneDigest
	w.look()
	require.Equal(t, oneDigest, w.desired())
	require.Empty(t, w.site.images[0].KnownDigest, "what was imported is of another source")
	require.Nil(t, w.polled().Source.HTTP)
	w.requireCondition(corev1.ConditionTrue, reasonChanged)
}

func TestImageByHandNeedsNoNetwork(t *testing.T) {
	cron := registryCron()
	cron.Spec.Schedule = ""
	cron.Annotations[golden.AnnotationDesiredDigest] = otherDigest
	w := newWorld(t, cron)
	w.look()
	require.Zero(t, w.site.polls())
	require.Equal(t, "docker://registry.example.org:5000/disks/fedora@"+otherDigest, w.polled().Source.Registry.URL)
	w.requireCondition(corev1.ConditionTrue, reasonFound)
}

func TestImageWithoutSHA256(t *testing.T) {
	w := newWorld(t, registryCron())
	w.site.image.Digest = "sha512:abc"
	w.look()
	w.requireCondition(corev1.ConditionFalse, reasonIllegalDigest)
	require.Empty(t, w.desired())
}

func TestImageStream(t *testing.T) {
	cron := fileCron()
	node := cdiv1.RegistryPullNode
	cron.Spec.Template.Spec.Source = &cdiv1.DataVolumeSource{Registry: &cdiv1.DataVolumeSourceRegistry{ImageStream: ptr("rhel8-is"), PullMethod: &node}}
	w := newWorld(t, cron)
	w.look()
	w.requireCondition(corev1.ConditionFalse, imagestream.NotFound, "ImageStream rhel8-is does not exist in namespace golden")

	name := func(image string) *unstructured.Unstructured {
		stream := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"tags": []any{
			map[string]any{"tag": "latest", "items": []any{map[string]any{"dockerImageReference": image}}},
		}}}}
		stream.SetGroupVersionKind(imagestream.Kind())
		stream.SetNamespace("golden")
		stream.SetName("rhel8-is")
		return stream
	}
	const image = "registry.example.org/rhel8/guest@" + oneDigest
	require.NoError(t, w.store.Create(t.Context(), name(image)))
	w.pass(time.Minute)
	require.Equal(t, oneDigest, w.desired())
	require.Equal(t, "docker://"+image, w.cron().Annotations[golden.AnnotationImageStreamRef])
	require.Equal(t, &golden.Revision{Digest: oneDigest, Source: v1alpha1.DiskSource{Registry: &v1alpha1.RegistrySource{
		URL: "docker://" + image, PullMethod: v1alpha1.PullMethodNode}}}, w.polled())
	require.Zero(t, w.site.polls(), "the stream tells the digest")

	w.edit(func(cron *cdiv1.DataImportCron) {
		cron.Spec.Template.Spec.Source = registryCron().Spec.Template.Spec.Source
	})
	w.site.image.Digest = otherDigest
	w.look()
	require.NotContains(t, w.cron().Annotations, golden.AnnotationImageStreamRef)
}

func TestClaim(t *testing.T) {
	claim := func(namespace string, uid string) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "disk"}}
		c.SetUID("7f0a7f0e-8a5c-4a0b-9b0e-" + "0d6f1d1f9d" + "10")
		if uid != "" {
			c.SetUID("8f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10")
		}
		return c
	}
	cronOf := func(namespace string) *cdiv1.DataImportCron {
		cron := fileCron()
		cron.Spec.Template.Spec.Source = &cdiv1.DataVolumeSource{PVC: &cdiv1.DataVolumeSourcePVC{Namespace: namespace, Name: "disk"}}
		return cron
	}
	t.Run("own namespace", func(t *testing.T) {
		w := newWorld(t, cronOf(""))
		w.look()
		w.requireCondition(corev1.ConditionFalse, reasonClaimNotFound, "golden/disk")
		require.NoError(t, w.store.Create(t.Context(), claim("golden", "")))
		w.pass(time.Minute)
		require.Equal(t, "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", w.desired())
		require.Equal(t, &golden.Claim{Namespace: "golden", Name: "disk", UID: "7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"}, w.polled().Claim)
		require.Empty(t, w.reviews)

		require.NoError(t, w.store.Delete(t.Context(), claim("golden", "")))
		require.NoError(t, w.store.Create(t.Context(), claim("golden", "another")))
		w.pass(time.Hour)
		require.Equal(t, "uid:8f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", w.desired(), "another claim of that name is another revision")

		w.edit(func(cron *cdiv1.DataImportCron) {
			cron.Annotations[golden.AnnotationDesiredDigest] = "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"
		})
		w.look()
		w.requireCondition(corev1.ConditionFalse, reasonIllegalDigest, "uid:8f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10")
	})
	t.Run("another namespace", func(t *testing.T) {
		cron := cronOf("disks")
		cron.Spec.ServiceAccountName = ptr("cloner")
		w := newWorld(t, cron, claim("disks", ""))
		w.look()
		w.requireCondition(corev1.ConditionFalse, reasonNotAuthorized, "--serviceaccount golden:cloner")
		require.Empty(t, w.desired())
		require.Equal(t, "system:serviceaccount:golden:cloner", w.reviews[0].User)
		require.Equal(t, "disks", w.reviews[0].ResourceAttributes.Namespace)
		require.Equal(t, "source", w.reviews[0].ResourceAttributes.Subresource)

		w.allowed = map[string]bool{"datavolumes": true}
		w.pass(time.Hour)
		require.Equal(t, "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", w.desired())
	})
	t.Run("a ReferenceGrant", func(t *testing.T) {
		letting := &gatewayv1beta1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Namespace: "disks", Name: "golden"}, Spec: gatewayv1beta1.ReferenceGrantSpec{
			From: []gatewayv1beta1.ReferenceGrantFrom{{Group: golden.Group, Kind: golden.DataSourceKind, Namespace: "golden"}},
			To:   []gatewayv1beta1.ReferenceGrantTo{{Kind: grant.KindClaim}},
		}}
		w := newWorld(t, cronOf("disks"), claim("disks", ""), letting)
		w.look()
		require.Equal(t, "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10", w.desired())
		require.Empty(t, w.reviews)
	})
	t.Run("default service account", func(t *testing.T) {
		w := newWorld(t, cronOf("disks"), claim("disks", ""))
		w.look()
		require.Equal(t, "system:serviceaccount:golden:default", w.reviews[0].User)
	})
}

func TestIllegalTemplates(t *testing.T) {
	for name, source := range map[string]*cdiv1.DataVolumeSource{
		"none": nil, "s3": {S3: &cdiv1.DataVolumeSourceS3{}}, "ftp": httpAt("ftp://images.example.org/disk"), "archive": registryAt("oci-archive://a"),
		"md5": {HTTP: &cdiv1.DataVolumeSourceHTTP{URL: "https://images.example.org/disk", Checksum: "md5:d41d8cd98f00b204e9800998ecf8427e"}},
	} {
		t.Run(name, func(t *testing.T) {
			cron := fileCron()
			cron.Spec.Template.Spec.Source = source
			w := newWorld(t, cron)
			w.look()
			w.pass(25 * time.Minute)
			w.requireCondition(corev1.ConditionFalse, reasonIllegalSource)
			require.Zero(t, w.site.polls())
		})
	}
}

// TestChecksumFileElsewhere: the secrets of a source are for its own server only.
func TestChecksumFileElsewhere(t *testing.T) {
	for url, secret := range map[string]bool{
		"https://images.example.org/SHA256SUMS": true, "https://sums.example.org/SHA256SUMS": false,
		"http://images.example.org/SHA256SUMS": false, "https://images.example.org:8443/SHA256SUMS": false,
	} {
		cron := fileCron()
		cron.Spec.Template.Spec.Source.HTTP.SecretRef = "login"
		cron.Annotations[golden.AnnotationChecksumURL] = url
		w := newWorld(t, cron, secretOf("login", map[string]string{"token": "canary"}))
		w.site.published = oneDigest
		w.look()
		require.Equal(t, oneDigest, w.desired())
		require.Equal(t, secret, w.site.sums[0].Secret != nil, url)
		require.Equal(t, []byte("canary"), w.site.files[0].Secret["token"])
	}
	cron := fileCron()
	cron.Annotations[golden.AnnotationChecksumURL] = "SHA256SUMS"
	w := newWorld(t, cron)
	w.look()
	w.requireCondition(corev1.ConditionFalse, reasonIllegalSource, golden.AnnotationChecksumURL)

	cron = fileCron()
	cron.Spec.Template.Spec.Source.HTTP.URL = "https://images.example.org/other.qcow2"
	cron.Annotations[golden.AnnotationChecksumURL] = "https://images.example.org/SHA256SUMS"
	w = newWorld(t, cron)
	w.look()
	w.requireCondition(corev1.ConditionFalse, "NotFound", "the file is not listed", golden.AnnotationChecksumURL)
}

// TestChecksumOfTheCronIsMended: a checksum that was wrong is neither kept nor does it make another
// revision.
func TestChecksumOfTheCronIsMended(t *testing.T) {
	cron := fileCron()
	cron.Spec.Template.Spec.Source.HTTP.Checksum = otherDigest
	w := newWorld(t, cron)
	w.look()
	name := w.desired()
	require.Equal(t, otherDigest, w.polled().Checksum)
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Source.HTTP.Checksum = oneDigest })
	w.look()
	require.Equal(t, oneDigest, w.polled().Checksum)
	w.edit(func(cron *cdiv1.DataImportCron) { cron.Spec.Template.Spec.Source.HTTP.Checksum = "" })
	w.look()
	require.Empty(t, w.polled().Checksum)
	require.Equal(t, name, w.desired())
}

// TestClaimByHandForAFile: a UID names claims only.
func TestClaimByHandForAFile(t *testing.T) {
	for _, cron := range []*cdiv1.DataImportCron{fileCron(), registryCron()} {
		cron.Spec.Schedule = ""
		cron.Annotations[golden.AnnotationDesiredDigest] = "uid:7f0a7f0e-8a5c-4a0b-9b0e-0d6f1d1f9d10"
		w := newWorld(t, cron)
		w.look()
		w.requireCondition(corev1.ConditionFalse, reasonIllegalDigest, "sha256:")
		require.NotContains(t, w.cron().Annotations, golden.AnnotationPolled)
		require.Zero(t, w.site.polls())
	}
}
