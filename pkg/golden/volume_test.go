package golden_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gild-project/gild/pkg/golden"
)

func TestIsHandedOver(t *testing.T) {
	made := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		from string
		age  time.Duration // of the volume, beyond that of the claim
		none bool
		want bool
	}{
		"for this claim":              {"golden/fedora", -time.Minute, false, true},
		"made in the same second":     {"golden/fedora", 0, false, true},
		"older than the claim":        {"golden/fedora", time.Second, false, false},
		"for another source":          {"golden/debian", -time.Minute, false, false},
		"for another namespace":       {"other/fedora", -time.Minute, false, false},
		"never handed over":           {"", -time.Minute, false, false},
		"the claim asks for no disk":  {"golden/fedora", -time.Minute, true, false},
		"neither asked for nor given": {"", -time.Minute, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "golden", Name: "fedora-1", CreationTimestamp: metav1.NewTime(made)}}
			if !test.none {
				claim.Spec.DataSourceRef = &corev1.TypedObjectReference{Kind: golden.CronKind, Name: "fedora"}
			}
			volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv", CreationTimestamp: metav1.NewTime(made.Add(-test.age))}}
			if test.from != "" {
				volume.Annotations = map[string]string{golden.AnnotationPopulatedFrom: test.from}
			}
			require.Equal(t, test.want, golden.IsHandedOver(volume, claim))
		})
	}
}
