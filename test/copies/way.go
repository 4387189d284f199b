package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// libraryWay is the library with no work.
	libraryWay = "library"
	// never comes while the benchmark runs.
	never = "0 0 29 2 *"
	// goldenSize is what the image asks for, to which room for a file system is added; copySize is no less than that.
	goldenSize = "1Gi"
	copySize   = "2Gi"
	writerName = "writer"
	// guest is who writes to disks.
	guest = 107
)

// way is one way to fill claims.
type way struct {
	name string
	// class of the claims and of the golden claim; plain is of a driver that takes no snapshots.
	class string
	// used has a pod write to the golden claim, so that it cannot be copied and is imported again.
	used bool
}

func wayOf(name string) (way, error) {
	all := []way{
		{name: string(v1alpha1.StrategySnapshot), class: "loop"},
		{name: string(v1alpha1.StrategyCopy), class: "plain"},
		{name: string(v1alpha1.StrategyImport), class: "plain", used: true},
		{name: libraryWay, class: "loop"},
	}
	i := slices.IndexFunc(all, func(w way) bool { return w.name == name })
	if i < 0 {
		return way{}, fmt.Errorf("%q is no way to fill claims", name)
	}
	return all[i], nil
}

func goldenName(class string) string { return "golden-" + class }

// source is what a claim names to be filled this way.
func (w way) source() *corev1.TypedObjectReference {
	if w.name == libraryWay {
		return &corev1.TypedObjectReference{APIGroup: ptr.To(libraryPrefix), Kind: nothingKind, Name: nothingName}
	}
	return &corev1.TypedObjectReference{APIGroup: ptr.To(cdiv1.SchemeGroupVersion.Group), Kind: "DataSource", Name: goldenName(w.class)}
}

func request(size string) corev1.VolumeResourceRequirements {
	return corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)}}
}

// begin makes what claims are copied from.
func (b *benchmark) begin(ctx context.Context, w way) error {
	if w.name == libraryWay {
		return nil
	}
	if err := b.makeGolden(ctx, w.class); err != nil || !w.used {
		return err
	}
	return b.startWriter(ctx, w)
}

// end removes what would disturb the next way.
func (b *benchmark) end(ctx context.Context, w way) error {
	if !w.used {
		return nil
	}
	writer := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: writerName}}
	return wait.PollUntilContextTimeout(ctx, look, endLimit, true, func(ctx context.Context) (bool, error) {
		err := b.cluster.client.Delete(ctx, writer, client.GracePeriodSeconds(1))
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	})
}

// makeGolden has a DataImportCron fetch the image, once for each class.
func (b *benchmark) makeGolden(ctx context.Context, class string) error {
	cron := &cdiv1.DataImportCron{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: goldenName(class)},
		Spec: cdiv1.DataImportCronSpec{
			Schedule: never, ManagedDataSource: goldenName(class),
			Template: cdiv1.DataVolume{Spec: cdiv1.DataVolumeSpec{
				Source:  &cdiv1.DataVolumeSource{HTTP: &cdiv1.DataVolumeSourceHTTP{URL: b.image.url}},
				Storage: &cdiv1.StorageSpec{StorageClassName: &class, VolumeMode: ptr.To(corev1.PersistentVolumeFilesystem), Resources: request(goldenSize)},
			}},
		},
	}
	before, begun := b.image.served.Load(), time.Now()
	if err := b.cluster.client.Create(ctx, cron); apierrors.IsAlreadyExists(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("creating a DataImportCron: %w", err)
	}
	b.say("making the golden image of class %s", class)
	err := b.until(ctx, func(ctx context.Context) (bool, error) {
		source, err := b.goldenSource(ctx, class)
		if err != nil || source == nil {
			return false, err
		}
		var primes corev1.PersistentVolumeClaimList
		err = b.cluster.client.List(ctx, &primes, client.InNamespace(systemNamespace))
		return len(primes.Items) == 0, err // the library is done with the golden claim, too
	})
	if err != nil {
		return fmt.Errorf("waiting for the golden image: %w", err)
	}
	b.report.Golden = append(b.report.Golden, golden{Class: class, Seconds: time.Since(begun).Seconds(), Bytes: b.image.served.Load() - before, Size: b.image.size})
	return nil
}

// goldenSource is the DataSource of a golden image, nil until it is ready.
func (b *benchmark) goldenSource(ctx context.Context, class string) (*cdiv1.DataSource, error) {
	source := &cdiv1.DataSource{}
	err := b.cluster.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: goldenName(class)}, source)
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	ready := slices.ContainsFunc(source.Status.Conditions, func(c cdiv1.DataSourceCondition) bool {
		return c.Type == cdiv1.DataSourceReady && c.Status == corev1.ConditionTrue
	})
	if !ready || source.Spec.Source.PVC == nil {
		return nil, nil
	}
	return source, nil
}

// startWriter runs a pod that may write to the golden claim.
func (b *benchmark) startWriter(ctx context.Context, w way) error {
	source, err := b.goldenSource(ctx, w.class)
	if err != nil {
		return fmt.Errorf("reading the golden image's DataSource: %w", err)
	}
	if source == nil {
		return errors.New("the golden image's DataSource is no longer ready")
	}
	writer := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: writerName},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](guest), FSGroup: ptr.To[int64](guest)},
			Containers: []corev1.Container{{
				Name: writerName, Image: os.Getenv("GILD_IMAGES") + "/gild-imageserver:" + os.Getenv("GILD_TAG"),
				Args: []string{"serve", "--dir=/data"}, VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
			}},
			Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: source.Spec.Source.PVC.Name},
			}}},
		},
	}
	if err := b.cluster.client.Create(ctx, writer); err != nil {
		return fmt.Errorf("creating a pod that writes: %w", err)
	}
	return b.until(ctx, func(ctx context.Context) (bool, error) {
		err := b.cluster.client.Get(ctx, client.ObjectKeyFromObject(writer), writer)
		return writer.Status.Phase == corev1.PodRunning, err
	})
}

// until waits until done.
func (b *benchmark) until(ctx context.Context, done wait.ConditionWithContextFunc) error {
	return wait.PollUntilContextTimeout(ctx, look, b.patience, true, done)
}
