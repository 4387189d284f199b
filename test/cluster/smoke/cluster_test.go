//go:build e2e

// Package smoke proves that the test cluster is a real Kubernetes: volumes,
// names, services, limits and network policies do what they say. It needs a
// running test cluster: go run ./test/cluster up
package smoke

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/gild-project/gild/test/cluster/image"
)

const (
	probeImage = "127.0.0.1:5000/gild-test/probe:1"
	soon       = 2 * time.Minute // for what takes a few seconds on an idle machine
	lookAgain  = 200 * time.Millisecond
	port       = 8080
)

// cluster is a namespace of the test's own.
type cluster struct {
	*testing.T
	kubernetes.Interface
	snapshots versioned.Interface
	namespace string
}

// newCluster connects to the cluster and makes a namespace.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	t.Parallel()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	require.NoError(t, err)
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	snapshots, err := versioned.NewForConfig(config)
	require.NoError(t, err)
	pushProbe(t)
	c := &cluster{T: t, Interface: client, snapshots: snapshots}
	return c.another()
}

// another makes one more namespace that enforces the restricted pod security standard.
func (c *cluster) another() *cluster {
	c.Helper()
	namespace, err := c.CoreV1().Namespaces().Create(c.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "gild-smoke-", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}, metav1.CreateOptions{})
	require.NoError(c, err)
	c.Cleanup(func() {
		ctx := context.WithoutCancel(c.Context())
		require.NoError(c, c.CoreV1().Namespaces().Delete(ctx, namespace.Name, metav1.DeleteOptions{}))
	})
	other := *c
	other.namespace = namespace.Name
	return &other
}

func pushProbe(t *testing.T) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "probe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	probe, err := image.OfProgram(path)
	require.NoError(t, err)
	require.NoError(t, image.Push(t.Context(), probe, probeImage))
}

// claim makes a claim of 64 MiB.
func (c *cluster) claim(name, class string, mode corev1.PersistentVolumeMode) {
	c.Helper()
	c.claimFrom(name, class, mode, "64Mi", nil)
}

// claimFrom makes a claim that begins as a copy of the source.
func (c *cluster) claimFrom(name, class string, mode corev1.PersistentVolumeMode, size string, source *corev1.TypedLocalObjectReference) {
	c.Helper()
	_, err := c.CoreV1().PersistentVolumeClaims(c.namespace).Create(c.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class, VolumeMode: &mode,
			Resources:  corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}},
			DataSource: source,
		},
	}, metav1.CreateOptions{})
	require.NoError(c, err)
}

// phase returns the phase of a claim.
func (c *cluster) phase(claim string) corev1.PersistentVolumeClaimPhase {
	c.Helper()
	found, err := c.CoreV1().PersistentVolumeClaims(c.namespace).Get(c.Context(), claim, metav1.GetOptions{})
	require.NoError(c, err)
	return found.Status.Phase
}

// start runs the probe in a pod as the importer runs: as user 107, with nothing
// it does not need.
func (c *cluster) start(name string, edit func(*corev1.Pod), args ...string) {
	c.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever, AutomountServiceAccountToken: ptr.To(false),
			TerminationGracePeriodSeconds: ptr.To(int64(0)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsUser: ptr.To(int64(107)), RunAsGroup: ptr.To(int64(107)), FSGroup: ptr.To(int64(107)), RunAsNonRoot: ptr.To(true),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "probe", Image: probeImage, ImagePullPolicy: corev1.PullAlways, Args: args,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
	if edit != nil {
		edit(pod)
	}
	_, err := c.CoreV1().Pods(c.namespace).Create(c.Context(), pod, metav1.CreateOptions{})
	require.NoError(c, err)
}

// serve runs a web server and returns the pod's address.
func (c *cluster) serve(name string) string {
	c.Helper()
	c.start(name, nil, "serve", ":8080")
	var address string
	c.eventually("pod "+name+" runs", func() bool {
		pod, err := c.CoreV1().Pods(c.namespace).Get(c.Context(), name, metav1.GetOptions{})
		require.NoError(c, err)
		address = pod.Status.PodIP
		return pod.Status.Phase == corev1.PodRunning
	})
	return address
}

// run runs the probe to its end and returns its findings.
func (c *cluster) run(name string, edit func(*corev1.Pod), args ...string) []string {
	c.Helper()
	c.start(name, edit, args...)
	var phase corev1.PodPhase
	c.eventually("pod "+name+" ends", func() bool {
		pod, err := c.CoreV1().Pods(c.namespace).Get(c.Context(), name, metav1.GetOptions{})
		require.NoError(c, err)
		phase = pod.Status.Phase
		return phase == corev1.PodSucceeded || phase == corev1.PodFailed
	})
	log, err := c.CoreV1().Pods(c.namespace).GetLogs(name, &corev1.PodLogOptions{}).Stream(c.Context())
	require.NoError(c, err)
	content, err := io.ReadAll(log)
	require.NoError(c, err)
	require.NoError(c, log.Close())
	require.Equal(c, corev1.PodSucceeded, phase, string(content))
	return strings.Split(strings.TrimSpace(string(content)), "\n")
}

// eventually waits until done.
func (c *cluster) eventually(what string, done func() bool) {
	c.Helper()
	err := wait.PollUntilContextTimeout(c.Context(), lookAgain, soon, true, func(context.Context) (bool, error) { return done(), nil })
	require.NoError(c, err, what)
}
