package restricted

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	psaapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"k8s.io/utils/ptr"
)

// TestContextsAreRestricted asks Kubernetes' own checks, which find something in each context that says less.
func TestContextsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		loosen func(*corev1.PodSecurityContext, *corev1.SecurityContext)
		want   bool
	}{
		"as they are":  {func(*corev1.PodSecurityContext, *corev1.SecurityContext) {}, true},
		"as root":      {func(pod *corev1.PodSecurityContext, _ *corev1.SecurityContext) { pod.RunAsUser = ptr.To[int64](0) }, false},
		"escalating":   {func(_ *corev1.PodSecurityContext, c *corev1.SecurityContext) { c.AllowPrivilegeEscalation = nil }, false},
		"capabilities": {func(_ *corev1.PodSecurityContext, c *corev1.SecurityContext) { c.Capabilities = nil }, false},
		"no seccomp": {func(pod *corev1.PodSecurityContext, c *corev1.SecurityContext) {
			pod.SeccompProfile, c.SeccompProfile = nil, nil
		}, false},
		"perhaps as root": {func(pod *corev1.PodSecurityContext, c *corev1.SecurityContext) {
			pod.RunAsNonRoot, c.RunAsNonRoot = nil, nil
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod, container := Pod(), Container()
			test.loosen(pod, container)
			spec := &corev1.PodSpec{SecurityContext: pod, Containers: []corev1.Container{{Name: "c", SecurityContext: container}}}
			allowed := true
			for _, check := range evaluator.EvaluatePod(psaapi.LevelVersion{Level: psaapi.LevelRestricted, Version: psaapi.LatestVersion()}, &metav1.ObjectMeta{}, spec) {
				allowed = allowed && check.Allowed
			}
			require.Equal(t, test.want, allowed)
		})
	}
}

// TestContextsAreNotShared: whoever changes the context of one pod changes no other.
func TestContextsAreNotShared(t *testing.T) {
	*Pod().RunAsUser = 0
	Container().Capabilities.Drop[0] = "NONE"
	require.EqualValues(t, 107, *Pod().RunAsUser)
	require.EqualValues(t, 107, *Pod().FSGroup)
	require.EqualValues(t, 107, *Pod().RunAsGroup)
	require.Equal(t, []corev1.Capability{"ALL"}, Container().Capabilities.Drop)
	require.True(t, *Container().ReadOnlyRootFilesystem)
}
