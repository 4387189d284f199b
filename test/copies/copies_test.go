package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestImageCountsWhatItServes(t *testing.T) {
	i, err := serveImage(t.Context(), "127.0.0.1", 3<<20)
	require.NoError(t, err)
	defer func() { require.NoError(t, i.stop()) }()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	ask := func(method, ranges string) *http.Response {
		request, err := http.NewRequestWithContext(t.Context(), method, i.url, http.NoBody)
		require.NoError(t, err)
		if ranges != "" {
			request.Header.Set("Range", ranges)
		}
		response, err := client.Do(request)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		if method == http.MethodGet {
			require.Len(t, body, int(response.ContentLength))
		}
		return response
	}
	head := ask(http.MethodHead, "")
	require.Equal(t, int64(4<<20), head.ContentLength, "a quarter is holes")
	require.Zero(t, i.served.Load())
	require.Equal(t, http.StatusPartialContent, ask(http.MethodGet, "bytes=0-999").StatusCode)
	require.Equal(t, int64(1000), i.served.Load())
	require.Equal(t, head.Header.Get("ETag"), ask(http.MethodGet, "").Header.Get("ETag"))
	require.Equal(t, int64(4<<20+1000), i.served.Load())
}

func TestParseWrites(t *testing.T) {
	metric := "apiserver_flowcontrol_dispatched_requests_total"
	counts, err := parseWrites([]byte("# TYPE " + metric + " counter\n" +
		metric + `{flow_schema="gild-copies-leases",priority_level="workload-low"} 7` + "\n" +
		metric + `{flow_schema="gild-copies-jobs",priority_level="workload-low"} 1.2e+01` + "\n" +
		metric + `{flow_schema="service-accounts",priority_level="workload-low"} 99` + "\n" +
		`other{flow_schema="gild-copies-pods",priority_level="workload-low"} 99` + "\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"leases": 7, "jobs": 12}, counts)
	require.Equal(t, map[string]int{"jobs": 2}, since(map[string]int{"leases": 1, "jobs": 10}, counts))
}

func TestEveryWriteIsCountedOnce(t *testing.T) {
	seen := map[string]bool{}
	precedence := int32(0)
	all := flowSchemas()
	for _, schema := range all {
		require.Greater(t, schema.Spec.MatchingPrecedence, precedence)
		precedence = schema.Spec.MatchingPrecedence
		for _, resource := range schema.Spec.Rules[0].ResourceRules[0].Resources {
			require.False(t, seen[resource], resource)
			seen[resource] = true
		}
	}
	require.Equal(t, []string{"*"}, all[len(all)-1].Spec.Rules[0].ResourceRules[0].Resources, "the last one counts the rest")
}

func claim(name string, phase corev1.PersistentVolumeClaimPhase, finalizers ...string) *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(name + "-uid"), Labels: map[string]string{runLabel: "x"}, Finalizers: finalizers},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: phase},
	}
}

func primeOf(name string, phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
	prime := claim(primePrefix+name+"-uid", phase)
	prime.Namespace, prime.Labels = systemNamespace, nil
	return prime
}

// filled is the timeline of one claim that took six seconds.
func filled() *timeline {
	begun := time.Unix(1000, 0)
	timeline := newTimeline(begun)
	for i, event := range []struct {
		kind  watch.EventType
		claim *corev1.PersistentVolumeClaim
	}{
		{watch.Added, claim("a", corev1.ClaimPending)},
		{watch.Added, primeOf("a", corev1.ClaimPending)}, // after a second
		{watch.Modified, claim("a", corev1.ClaimPending, "gild.dev"+finalizerEnd)},
		{watch.Modified, primeOf("a", corev1.ClaimBound)},
		{watch.Modified, claim("a", corev1.ClaimBound, "gild.dev"+finalizerEnd)},
		{watch.Modified, claim("a", corev1.ClaimBound, "kubernetes.io/pvc-protection")},
		{watch.Deleted, primeOf("a", corev1.ClaimLost)},
		{watch.Modified, claim("a", corev1.ClaimBound)},
	} {
		timeline.observe(event.kind, event.claim, begun.Add(time.Duration(i)*time.Second))
	}
	return timeline
}

func TestTimeline(t *testing.T) {
	timeline := filled()
	timeline.observe(watch.Deleted, primeOf("golden", corev1.ClaimLost), time.Now())
	golden := claim("golden", corev1.ClaimBound)
	golden.Labels = nil
	timeline.observe(watch.Modified, golden, time.Now())
	require.Equal(t, 1, timeline.count(bound), "only what is measured counts")
	require.Equal(t, 1, timeline.count(cleared))
	timeline.observe(watch.Added, claim("b", corev1.ClaimPending), time.Now())
	require.Equal(t, 1, timeline.count(bound))

	require.Equal(t, figures{Way: "w", Claims: 1, Seconds: 4, Cleared: 6, Gate: 1, Storage: 2, HandOver: 1}, figuresOf(way{name: "w"}, 1, filled()))
}

// good is a report in which every limit is kept.
func good() *report {
	snapshot := string(v1alpha1.StrategySnapshot)
	return &report{
		Machine: "a machine", Data: 3 * mb, Golden: []golden{{Class: "loop", Seconds: 9, Bytes: 4 * mb, Size: 4 * mb}},
		Measured: []figures{
			{Way: snapshot, Claims: 1, Seconds: 5, Storage: 2, Writes: map[string]int{"jobs": 2, "pods": 1}, Strategies: map[v1alpha1.Strategy]int{v1alpha1.StrategySnapshot: 1}},
			{Way: snapshot, Claims: many, Seconds: 55, Strategies: map[v1alpha1.Strategy]int{v1alpha1.StrategySnapshot: many}},
			{Way: string(v1alpha1.StrategyImport), Claims: 1, Seconds: 9, Bytes: mb, Strategies: map[v1alpha1.Strategy]int{v1alpha1.StrategyImport: 1}},
			{Way: libraryWay, Claims: many, Seconds: 50},
		},
	}
}

func TestReport(t *testing.T) {
	r := good()
	r.judge()
	require.NoError(t, r.missed())
	text := r.table()
	require.Regexp(t, `(?m)^Snapshot +1 +5\.0 .* 3\.0$`, text)
	require.Contains(t, text, "writes of Snapshot, 1 claims: jobs 2 pods 1\n")
	require.NotContains(t, text, "MISSED")
}

func TestEveryFaultIsSeen(t *testing.T) {
	for fault, change := range map[string]func(r *report){
		"downloaded more than once":        func(r *report) { r.Golden[0].Bytes *= 2 },
		"1 bytes were downloaded":          func(r *report) { r.Measured[0].Bytes = 1 },
		"other strategies were used":       func(r *report) { r.Measured[2].Strategies = map[v1alpha1.Strategy]int{v1alpha1.StrategyCopy: 1} },
		"3.1 s without the storage":        func(r *report) { r.Measured[0].Seconds = 5.1 },
		"55.1 s, 55.0 s are allowed":       func(r *report) { r.Measured[1].Seconds = 55.1 },
		"the library with no work: 40.0 s": func(r *report) { r.Measured[3].Seconds = 40 },
	} {
		t.Run(fault, func(t *testing.T) {
			r := good()
			change(r)
			r.judge()
			require.Contains(t, strings.Join(r.Faults, "\n"), fault)
			require.Error(t, r.missed())
			require.Contains(t, r.table(), "MISSED: ")
		})
	}
}

func TestChoose(t *testing.T) {
	b := &benchmark{}
	require.NoError(t, b.choose("Import,library", "1,20"))
	require.Equal(t, []int{1, 20}, b.counts)
	require.Equal(t, []way{{name: "Import", class: "plain", used: true}, {name: libraryWay, class: "loop"}}, b.ways)
	require.ErrorContains(t, b.choose("Clone", "1"), `"Clone" is no way`)
	require.ErrorContains(t, b.choose("Copy", "1,0"), `"0" is no number`)
	require.ErrorContains(t, b.choose("Copy", "x"), `"x" is no number`)
}
