package populator

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// strictPatches makes a client answer patches as the API server does, after what another controller does just before
// the first one.
func strictPatches(w *world, meanwhile func()) client.Client {
	return interceptor.NewClient(w.client, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if meanwhile != nil {
				meanwhile()
				meanwhile = nil
			}
			before := &corev1.Pod{}
			if err := c.Get(ctx, client.ObjectKeyFromObject(o), before); err != nil {
				return err
			}
			err := c.Patch(ctx, o, p, opts...)
			var status apierrors.APIStatus
			if err != nil && !errors.As(err, &status) {
				return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "patch", schema.GroupResource{Resource: "pods"}, o.GetName(), err.Error(), 0, false)
			}
			for _, finalizer := range o.GetFinalizers() {
				if err == nil && !slices.Contains(before.Finalizers, finalizer) {
					return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, o.GetName(), errors.New("no new finalizers can be added if the object is being deleted"))
				}
			}
			return err
		},
	})
}

// TestPodIsLetGoOfBesideOthers: other controllers take their finalizers away between our look at a pod and our patch.
func TestPodIsLetGoOfBesideOthers(t *testing.T) {
	const tracking, other = "batch.kubernetes.io/job-tracking", "example.org/other"
	for name, test := range map[string]struct {
		finalizers []string
		meanwhile  []string // what is taken away
		calls      int      // until ours is gone
		left       []string
	}{
		"nobody else":                 {finalizers: []string{finalizerPod}, calls: 1},
		"others stay":                 {finalizers: []string{tracking, finalizerPod, other}, calls: 1, left: []string{tracking, other}},
		"one before ours goes":        {finalizers: []string{tracking, finalizerPod}, meanwhile: []string{tracking}, calls: 2},
		"one before ours goes of two": {finalizers: []string{tracking, finalizerPod, other}, meanwhile: []string{tracking}, calls: 2, left: []string{other}},
		"one after ours goes":         {finalizers: []string{finalizerPod, tracking}, meanwhile: []string{tracking}, calls: 1},
		"ours goes":                   {finalizers: []string{finalizerPod, other}, meanwhile: []string{finalizerPod}, calls: 1, left: []string{other}},
		"all go":                      {finalizers: []string{tracking, finalizerPod}, meanwhile: []string{tracking, finalizerPod}, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "importer", Labels: importLabels("0c1a"), Finalizers: test.finalizers}}
			w := newWorld(t, pod)
			take := func() {
				var live corev1.Pod
				require.True(t, w.find(&live, pod.Namespace, pod.Name))
				live.Finalizers = slices.DeleteFunc(live.Finalizers, func(f string) bool { return slices.Contains(test.meanwhile, f) })
				require.NoError(t, w.store.Update(t.Context(), &live))
			}
			r := remains{client: strictPatches(w, take), live: w.store, namespace: systemNamespace}
			for range test.calls {
				var live corev1.Pod
				require.True(t, w.find(&live, pod.Namespace, pod.Name))
				require.Contains(t, live.Finalizers, finalizerPod)
				gone, err := r.clearAttempts(t.Context(), ofClaim("0c1a"))
				require.NoError(t, err)
				require.False(t, gone, "it was there a moment ago")
			}
			var live corev1.Pod
			there := w.find(&live, pod.Namespace, pod.Name)
			require.Equal(t, len(test.left) > 0, there)
			require.Equal(t, test.left, live.Finalizers)
			gone, err := r.clearAttempts(t.Context(), ofClaim("0c1a"))
			require.NoError(t, err)
			require.Equal(t, !there, gone)
		})
	}
}
