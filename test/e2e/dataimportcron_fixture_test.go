//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/golden"
	"github.com/gild-project/gild/test/imageserver/server"
)

const (
	// onceSchedule has a cron polled when it is made, and then when it is told to: its time does not come.
	onceSchedule = "0 0 29 2 *"
	// cronDiskSize and cronClaimSize are those of most tests of DataImportCrons.
	cronDiskSize  = 16 * mib
	cronClaimSize = 64 * mib
	// polledWithin bounds how soon a poll that is asked for is seen.
	polledWithin = time.Minute
	// sourcePolled is Gild's own condition of a DataImportCron.
	sourcePolled cdiv1.DataImportCronConditionType = "SourcePolled"
)

// httpSource and registrySource are sources of a DataImportCron.
func httpSource(url string) cdiv1.DataVolumeSource {
	return cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: url}}
}

func registrySource(url, certConfigMap string) cdiv1.DataVolumeSource {
	return cdiv1.DataVolumeSource{Registry: &cdiv1.DataVolumeSourceRegistry{URL: &url, CertConfigMap: &certConfigMap}}
}

// newCron is a DataImportCron of an Immediate class, which manages a DataSource of its own name.
func (f *fixture) newCron(name string, source cdiv1.DataVolumeSource, edit ...func(*cdiv1.DataImportCron)) *cdiv1.DataImportCron {
	f.Helper()
	cron := &cdiv1.DataImportCron{ObjectMeta: f.meta(name), Spec: cdiv1.DataImportCronSpec{
		Schedule: onceSchedule, ManagedDataSource: name,
		Template: cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{Source: &source, Storage: &cdiv1.StorageSpec{
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceStorage: *resource.NewQuantity(cronClaimSize, resource.BinarySI),
			}},
		}}},
	}}
	for _, change := range edit {
		change(cron)
	}
	if cron.Spec.Template.Spec.Storage.StorageClassName == nil {
		cron.Spec.Template.Spec.Storage.StorageClassName = ptr.To(f.Class(storagev1.VolumeBindingImmediate))
	}
	return cron
}

// Cron makes one.
func (f *fixture) Cron(name string, source cdiv1.DataVolumeSource, edit ...func(*cdiv1.DataImportCron)) {
	f.Helper()
	require.NoError(f, f.Create(f.ctx, f.newCron(name, source, edit...)))
}

// EditCron changes a DataImportCron.
func (f *fixture) EditCron(name string, edit func(*cdiv1.DataImportCron)) {
	f.Helper()
	cron := f.ReadCron(name)
	before := cron.DeepCopy()
	edit(cron)
	require.NoError(f, f.Patch(f.ctx, cron, client.MergeFrom(before)))
}

// AnnotateCron sets an annotation of a DataImportCron.
func (f *fixture) AnnotateCron(name, key, value string) {
	f.Helper()
	f.EditCron(name, func(cron *cdiv1.DataImportCron) { metav1.SetMetaDataAnnotation(&cron.ObjectMeta, key, value) })
}

// PollNow asks for a poll.
func (f *fixture) PollNow(name string) {
	f.Helper()
	f.AnnotateCron(name, golden.AnnotationPollNow, rand.String(8))
}

// ReadCron reads a DataImportCron.
func (f *fixture) ReadCron(name string) *cdiv1.DataImportCron {
	f.Helper()
	cron := &cdiv1.DataImportCron{}
	require.NoError(f, f.Get(f.ctx, f.key(name), cron))
	return cron
}

// ReadDataSource reads a DataSource.
func (f *fixture) ReadDataSource(name string) *cdiv1.DataSource {
	f.Helper()
	source := &cdiv1.DataSource{}
	require.NoError(f, f.Get(f.ctx, f.key(name), source))
	return source
}

// cronCondition is a condition of a cron; an empty one before it is set.
func cronCondition(cron *cdiv1.DataImportCron, kind cdiv1.DataImportCronConditionType) cdiv1.ConditionState {
	for _, condition := range cron.Status.Conditions {
		if condition.Type == kind {
			return condition.ConditionState
		}
	}
	return cdiv1.ConditionState{}
}

func dataSourceReady(source *cdiv1.DataSource) cdiv1.ConditionState {
	for _, condition := range source.Status.Conditions {
		if condition.Type == cdiv1.DataSourceReady {
			return condition.ConditionState
		}
	}
	return cdiv1.ConditionState{}
}

// describeCron says in one line how a cron is.
func describeCron(cron *cdiv1.DataImportCron) string {
	var texts []string
	for _, condition := range cron.Status.Conditions {
		texts = append(texts, fmt.Sprintf("%s=%s %s: %s", condition.Type, condition.Status, condition.Reason, condition.Message))
	}
	if imported := cron.Status.LastImportedPVC; imported != nil {
		texts = append(texts, "last imported "+imported.Name)
	}
	return strings.Join(append(texts, "desired "+cron.Annotations[golden.AnnotationDesiredDigest]), "; ")
}

// WaitCron waits until a DataImportCron is as wanted.
func (f *fixture) WaitCron(name, what string, within time.Duration, wanted func(*cdiv1.DataImportCron) bool) *cdiv1.DataImportCron {
	f.Helper()
	var last *cdiv1.DataImportCron
	f.Eventually(what, within, func(ctx context.Context) (bool, string, error) {
		cron := &cdiv1.DataImportCron{}
		if err := f.Get(ctx, f.key(name), cron); err != nil {
			return false, "", err
		}
		last = cron
		return wanted(cron), describeCron(cron), nil
	})
	return last
}

// WaitRolled waits until a DataImportCron is up to date with another claim than those of before, and its DataSource leads
// to that claim. It returns the claim.
func (f *fixture) WaitRolled(name string, before ...claim) claim {
	f.Helper()
	cron := f.WaitCron(name, "rolled", importWithin, func(cron *cdiv1.DataImportCron) bool {
		imported := cron.Status.LastImportedPVC
		return imported != nil && cronCondition(cron, cdiv1.DataImportCronUpToDate).Status == corev1.ConditionTrue &&
			!slices.ContainsFunc(before, func(c claim) bool { return c.name == imported.Name })
	})
	require.Equal(f, corev1.ConditionFalse, cronCondition(cron, cdiv1.DataImportCronProgressing).Status)
	require.Equal(f, f.namespace, cron.Status.LastImportedPVC.Namespace)
	require.NotNil(f, cron.Status.LastImportTimestamp)
	c := f.GoldenClaim(cron.Status.LastImportedPVC.Name)
	f.RequireSource(cron.Spec.ManagedDataSource, c)
	return c
}

// GoldenClaim reads a claim that a cron has made.
func (f *fixture) GoldenClaim(name string) claim {
	f.Helper()
	pvc := &corev1.PersistentVolumeClaim{}
	require.NoError(f, f.Get(f.ctx, f.key(name), pvc))
	return claim{name: name, uid: string(pvc.UID), mode: ptr.Deref(pvc.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)}
}

// RequireSource waits until a DataSource leads to a claim, and says that it is ready.
func (f *fixture) RequireSource(name string, c claim) {
	f.Helper()
	f.Eventually("a DataSource that is ready", time.Minute, func(ctx context.Context) (bool, string, error) {
		source := &cdiv1.DataSource{}
		if err := f.Get(ctx, f.key(name), source); err != nil {
			return false, "", client.IgnoreNotFound(err)
		}
		ready := dataSourceReady(source)
		leads := source.Spec.Source.PVC != nil && source.Spec.Source.PVC.Name == c.name &&
			source.Status.Source.PVC != nil && source.Status.Source.PVC.Name == c.name
		return leads && ready.Status == corev1.ConditionTrue, fmt.Sprintf("%+v, %s %s", source.Spec.Source, ready.Reason, ready.Message), nil
	})
}

// GoldenClaims are the names of the claims that a cron has made and that are not on their way out, in order.
func (f *fixture) GoldenClaims(cron string) []string {
	f.Helper()
	var claims corev1.PersistentVolumeClaimList
	require.NoError(f, f.List(f.ctx, &claims, client.InNamespace(f.namespace), client.MatchingLabels{golden.LabelCron: cron}))
	var names []string
	for _, c := range claims.Items {
		if c.DeletionTimestamp.IsZero() {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

// WaitGoldenClaims waits until a cron has exactly these claims.
func (f *fixture) WaitGoldenClaims(cron string, want ...claim) {
	f.Helper()
	var names []string
	for _, c := range want {
		names = append(names, c.name)
	}
	slices.Sort(names)
	f.Eventually("the claims of the cron", goneWithin, func(context.Context) (bool, string, error) {
		have := f.GoldenClaims(cron)
		return slices.Equal(have, names), fmt.Sprintf("%v, want %v", have, names), nil
	})
}

// WaitPollFails waits until a cron says that its source cannot be polled, and checks that its user is told.
func (f *fixture) WaitPollFails(name, reason string) *cdiv1.DataImportCron {
	f.Helper()
	cron := f.WaitCron(name, "a poll that fails with "+reason, polledWithin, func(cron *cdiv1.DataImportCron) bool {
		polled := cronCondition(cron, sourcePolled)
		return polled.Status == corev1.ConditionFalse && polled.Reason == reason
	})
	require.NotEmpty(f, cronCondition(cron, sourcePolled).Message)
	return cron
}

// WaitPolled waits until a cron's last poll went well.
func (f *fixture) WaitPolled(name string) *cdiv1.DataImportCron {
	f.Helper()
	return f.WaitCron(name, "a poll that goes well", polledWithin, func(cron *cdiv1.DataImportCron) bool {
		return cronCondition(cron, sourcePolled).Status == corev1.ConditionTrue
	})
}

// lastPoll is when a cron's last poll was.
func (f *fixture) lastPoll(cron *cdiv1.DataImportCron) time.Time {
	f.Helper()
	last, err := time.Parse(time.RFC3339, cron.Annotations[golden.AnnotationLastCronTime])
	require.NoError(f, err)
	return last
}

// RequirePollWithoutChange polls a cron and checks that nothing changes by it.
func (f *fixture) RequirePollWithoutChange(name string) {
	f.Helper()
	before := f.ReadCron(name)
	last := f.lastPoll(before)
	// The time of a poll is in whole seconds.
	f.Eventually("a second", time.Minute, func(context.Context) (bool, string, error) { return time.Since(last) > 2*time.Second, "", nil })
	f.PollNow(name)
	after := f.WaitCron(name, "a poll", polledWithin, func(cron *cdiv1.DataImportCron) bool { return f.lastPoll(cron).After(last) })
	require.Equal(f, corev1.ConditionTrue, cronCondition(after, sourcePolled).Status)
	require.Equal(f, corev1.ConditionTrue, cronCondition(after, cdiv1.DataImportCronUpToDate).Status)
	require.Equal(f, before.Annotations[golden.AnnotationDesiredDigest], after.Annotations[golden.AnnotationDesiredDigest])
	require.Equal(f, before.Status.LastImportedPVC, after.Status.LastImportedPVC)
	require.Equal(f, before.Status.LastImportTimestamp, after.Status.LastImportTimestamp)
}

// Revision is the test's disk as it is in its nth revision, as a raw image.
func (f *fixture) Revision(n uint64) image {
	d := f.Disk(cronDiskSize)
	d.Seed += n
	return image{disk: d, file: server.File{Disk: &d}, length: d.Size}
}

// UserClaim makes a claim of a user that refers to a DataImportCron.
func (f *fixture) UserClaim(name, cron string, edit ...func(*corev1.PersistentVolumeClaim)) claim {
	f.Helper()
	refer := func(pvc *corev1.PersistentVolumeClaim) {
		pvc.Spec.DataSourceRef = &corev1.TypedObjectReference{APIGroup: ptr.To(golden.Group), Kind: golden.CronKind, Name: cron}
	}
	return f.Claim(name, "", append([]func(*corev1.PersistentVolumeClaim){refer}, edit...)...)
}

// pollerPod is a poller that runs.
func (f *fixture) pollerPod() *corev1.Pod {
	f.Helper()
	var pods corev1.PodList
	require.NoError(f, f.List(f.ctx, &pods, client.InNamespace(systemNamespace), client.MatchingLabels{"app.kubernetes.io/component": "poller"}))
	i := slices.IndexFunc(pods.Items, func(pod corev1.Pod) bool {
		return pod.DeletionTimestamp.IsZero() && pod.Status.Phase == corev1.PodRunning
	})
	require.GreaterOrEqual(f, i, 0, "no poller runs")
	return &pods.Items[i]
}

// pollerMetrics are what the poller tells Prometheus.
func (f *fixture) pollerMetrics() string {
	f.Helper()
	text, err := f.callPod(f.ctx, client.ObjectKeyFromObject(f.pollerPod()), http.MethodGet, "/metrics", nil)
	require.NoError(f, err)
	return string(text)
}

// WaitSource waits until a DataSource is ready or not, for a reason unless that is empty.
func (f *fixture) WaitSource(name string, status corev1.ConditionStatus, reason string) *cdiv1.DataSource {
	f.Helper()
	source := &cdiv1.DataSource{}
	f.Eventually("DataSource "+name, polledWithin, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, f.key(name), source)
		ready := dataSourceReady(source)
		return ready.Status == status && (reason == "" || ready.Reason == reason), fmt.Sprintf("%s %s: %s", ready.Status, ready.Reason, ready.Message), err
	})
	return source
}
