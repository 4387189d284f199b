package populator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/datasource"
	"github.com/gild-project/gild/pkg/golden"
)

// resolveDataSource follows a DataSource to the claim or snapshot that it leads to now. Of a golden claim it also
// says where its disk came from, and of one that is gone it says that alone.
func resolveDataSource(ctx context.Context, r readers, claim *corev1.PersistentVolumeClaim, source client.Object) (*v1alpha1.VMDiskImportSpec, *state, error) {
	dataSource, ok := source.(*cdiv1.DataSource)
	if !ok {
		return nil, notOurs(source), nil
	}
	found, err := datasource.Look(ctx, r.Reader, r.live, dataSource)
	if err != nil {
		return nil, nil, fmt.Errorf("following DataSource %s: %w", dataSource.Name, err)
	}
	spec := &v1alpha1.VMDiskImportSpec{ImageRef: v1alpha1.ImageReference{Kind: golden.DataSourceKind, Name: dataSource.Name, UID: dataSource.UID}}
	switch {
	case found.Claim != nil && found.Claim.UID == claim.UID:
		return nil, because(reasonSourceNotReady, "DataSource %s names this very claim: a claim cannot be a copy of itself", dataSource.Name), nil
	case found.Claim == nil && found.Snapshot == nil, found.Claim != nil && !found.Claim.DeletionTimestamp.IsZero():
		again, err := importedLast(ctx, r, found.Last)
		if err != nil || again == nil {
			return nil, sourceNotReady(dataSource, found), err
		}
		spec.ImageRef.Revision = again.Digest
		importFrom(spec, again)
	case !found.Ready:
		return nil, sourceNotReady(dataSource, found), nil
	case found.Snapshot != nil:
		spec.CopyOf = &v1alpha1.CopySource{Kind: v1alpha1.CopyOfSnapshot, Namespace: found.Snapshot.GetNamespace(), Name: found.Snapshot.GetName(), UID: found.Snapshot.GetUID()}
	default:
		spec.CopyOf = copyOfClaim(found.Claim)
		return spec, nil, addOrigin(ctx, r, spec, found.Claim, claim.Namespace)
	}
	return spec, nil, nil
}

func sourceNotReady(dataSource *cdiv1.DataSource, found *datasource.Found) *state {
	message := found.Message
	if found.Ready {
		message = "the claim is being deleted"
	}
	return because(reasonSourceNotReady, "DataSource %s cannot be used yet: %s: the import starts by itself once it can", dataSource.Name, message)
}

// addOrigin adds to the copy of a golden claim which revision it holds and, when that is known for sure, where
// to fetch it again. A cron in another namespace is not asked: its Secrets are there, too.
func addOrigin(ctx context.Context, r readers, spec *v1alpha1.VMDiskImportSpec, from *corev1.PersistentVolumeClaim, namespace string) error {
	name := from.Labels[golden.LabelCron]
	named, err := golden.ParseRevision(from.Annotations[golden.AnnotationRevision])
	if err != nil || !isGoldenOf(from, name) || !isVerified(from) {
		return nil //nolint:nilerr // anybody may write annotations: this one is no golden claim
	}
	spec.ImageRef.Revision = named.Digest
	if from.Namespace != namespace {
		return nil
	}
	cron, err := cronNamed(ctx, r, namespace, name)
	if err != nil || cron == nil {
		return err
	}
	if revision, _ := goldenRevision(from, cron); revision != nil && revision.Claim == nil {
		importFrom(spec, revision)
	}
	return nil
}

// importedLast is the revision that the cron of a DataSource has imported last; nil when it has no cron, or when
// there is nothing to fetch it from.
func importedLast(ctx context.Context, r readers, dataSource *cdiv1.DataSource) (*golden.Revision, error) {
	if dataSource == nil || dataSource.Labels[golden.LabelCron] == "" {
		return nil, nil
	}
	cron, err := cronNamed(ctx, r, dataSource.Namespace, dataSource.Labels[golden.LabelCron])
	if err != nil || cron == nil || cron.Spec.ManagedDataSource != dataSource.Name {
		return nil, err
	}
	revision, _ := currentRevision(nil, cron)
	if revision == nil || revision.Claim != nil {
		return nil, nil
	}
	return revision, nil
}

// cronNamed reads a cron; nil when there is none.
func cronNamed(ctx context.Context, r readers, namespace, name string) (*cdiv1.DataImportCron, error) {
	cron := &cdiv1.DataImportCron{}
	err := r.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, cron)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading DataImportCron %s: %w", name, err)
	}
	return cron, nil
}

// leadChanged lets a DataSource wake its claims when it leads somewhere else, or can be used now.
func leadChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		was, ok := e.ObjectOld.(*cdiv1.DataSource)
		is, same := e.ObjectNew.(*cdiv1.DataSource)
		return !ok || !same || was.UID != is.UID || is.DeletionTimestamp != was.DeletionTimestamp ||
			!equality.Semantic.DeepEqual(was.Spec, is.Spec) || !equality.Semantic.DeepEqual(was.Status.Source, is.Status.Source)
	}}
}
