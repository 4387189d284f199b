package populator

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

func TestNextStep(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(d)} }
	for _, test := range []struct {
		name   string
		status v1alpha1.VMDiskImportStatus
		jobs   []int
		want   step
		wait   time.Duration
	}{
		{name: "new", want: stepStart},
		{name: "job made, record not written", jobs: []int{1}, want: stepWatch},
		{name: "running", status: v1alpha1.VMDiskImportStatus{Attempts: 1}, jobs: []int{1}, want: stepWatch},
		{name: "running, an older job is still going", status: v1alpha1.VMDiskImportStatus{Attempts: 2}, jobs: []int{1, 2}, want: stepWatch},
		{name: "job vanished", status: v1alpha1.VMDiskImportStatus{Attempts: 1}, want: stepLost},
		{name: "only an older job is there", status: v1alpha1.VMDiskImportStatus{Attempts: 2}, jobs: []int{1}, want: stepLost},
		{name: "failed attempt recorded, job not cleared yet", status: v1alpha1.VMDiskImportStatus{Attempts: 1, NextAttemptTime: at(10 * time.Second)}, jobs: []int{1}, want: stepRest, wait: 10 * time.Second},
		{name: "time has come", status: v1alpha1.VMDiskImportStatus{Attempts: 1, NextAttemptTime: at(-time.Second)}, jobs: []int{1}, want: stepStart},
		{name: "next job made, record not written", status: v1alpha1.VMDiskImportStatus{Attempts: 1, NextAttemptTime: at(-time.Second)}, jobs: []int{1, 2}, want: stepWatch},
		{name: "succeeded, job not cleared yet", status: v1alpha1.VMDiskImportStatus{Attempts: 1, Result: &v1alpha1.ImportResult{}}, jobs: []int{1}, want: stepFinish},
		{name: "failed", status: v1alpha1.VMDiskImportStatus{Attempts: 1, Phase: v1alpha1.PhaseFailed}, jobs: []int{1}, want: stepGiveUp},
	} {
		t.Run(test.name, func(t *testing.T) {
			var jobs []batchv1.Job
			for _, n := range test.jobs {
				jobs = append(jobs, batchv1.Job{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{labelAttempt: strconv.Itoa(n)}}})
			}
			got, job, wait := nextStep(&v1alpha1.VMDiskImport{Status: test.status}, jobs, now)
			require.Equal(t, test.want, got)
			require.Equal(t, test.wait, wait)
			if got == stepWatch {
				require.GreaterOrEqual(t, attemptOf(job), test.status.Attempts)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for attempt, want := range map[int32]time.Duration{
		1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 5: 160 * time.Second, 6: 5 * time.Minute, 1000: 5 * time.Minute,
	} {
		require.Equal(t, want, backoff(attempt, 0), "attempt %d", attempt)
	}
	require.Equal(t, time.Hour, backoff(1, time.Hour), "the server's wish wins when it is longer")
	require.Equal(t, 20*time.Second, backoff(2, time.Second))
}
