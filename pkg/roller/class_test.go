package roller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/gild-project/gild/pkg/claimshape"
)

func TestWantedClass(t *testing.T) {
	class := func(name string, age time.Duration, annotations ...string) storagev1.StorageClass {
		c := testClass(name, annotations...)
		c.CreationTimestamp = metav1.NewTime(start().Add(-age))
		return *c
	}
	storage := func(class *string) *cdiv1.DataVolume {
		return &cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{Storage: &cdiv1.StorageSpec{StorageClassName: class}}}
	}
	plain, virt := class("plain", time.Hour, claimshape.AnnotationDefault), class("virt", 2*time.Hour, claimshape.AnnotationVirtDefault)
	for _, test := range []struct {
		name     string
		template *cdiv1.DataVolume
		origin   *corev1.PersistentVolumeClaim
		classes  []storagev1.StorageClass
		want     string
	}{
		{"named", storage(ptr.To("mine")), nil, []storagev1.StorageClass{virt}, "mine"},
		{"named in the pvc form", &cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{PVC: &corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("mine")}}}, nil, []storagev1.StorageClass{virt}, "mine"},
		{"named as none", storage(ptr.To("")), nil, []storagev1.StorageClass{virt}, ""},
		{"that of the claim that is copied", storage(nil), &corev1.PersistentVolumeClaim{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: ptr.To("origin")}}, []storagev1.StorageClass{virt}, "origin"},
		{"KubeVirt's default", storage(nil), nil, []storagev1.StorageClass{plain, virt}, "virt"},
		{"Kubernetes' default", storage(nil), nil, []storagev1.StorageClass{class("other", 0), plain}, "plain"},
		{"Kubernetes' earlier default", storage(nil), nil, []storagev1.StorageClass{class("beta", 0, claimshape.AnnotationDefaultEarlier)}, "beta"},
		{"the newest default", storage(nil), nil, []storagev1.StorageClass{plain, class("newer", time.Minute, claimshape.AnnotationDefault)}, "newer"},
		{"the first by name of one age", storage(nil), nil, []storagev1.StorageClass{class("b", 0, claimshape.AnnotationDefault), class("a", 0, claimshape.AnnotationDefault)}, "a"},
		{"none", storage(nil), nil, []storagev1.StorageClass{class("other", 0)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, wantedClass(test.template, test.origin, test.classes))
		})
	}
}
