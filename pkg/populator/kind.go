package populator

import (
	"context"
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/cdi"
	"github.com/gild-project/gild/pkg/golden"
)

// kindImage is the kind that says itself where its disk is.
const kindImage = "VMDiskImage"

// kind is one kind of source that claims are filled from, and all in which one differs from another.
type kind struct {
	// name is how the dataSourceRef of a claim spells it.
	name     string
	resource schema.GroupVersionResource
	// install brings its CustomResourceDefinition.
	install string
	// foreign reports whether somebody else serves the kind; nil when nobody else does.
	foreign func(context.Context, client.Reader) (bool, error)
	// object makes an empty source.
	object func() client.Object
	// resolve says what the import of a claim does as its source is now, or what it waits for.
	resolve func(ctx context.Context, r readers, claim *corev1.PersistentVolumeClaim, source client.Object) (*v1alpha1.VMDiskImportSpec, *state, error)
	// unwatched: resolve sees more than the source itself, and changes of that wake nobody.
	unwatched bool
	// matters tells the changes of a source that resolve may see.
	matters predicate.Predicate
	// keeper looks after the sources themselves.
	keeper func(holder, clock.PassiveClock) reconcile.Reconciler
	// finalizer holds a source while an import of it is in flight.
	finalizer string
	// edited says that resolve has another answer than when an import was made, and moved what becomes of
	// an import of bytes that the server no longer has.
	edited, moved string

	present atomic.Int32
}

// presence is whether a kind is ours to serve.
type presence int32

const (
	// presenceUnknown is before the API server was asked.
	presenceUnknown presence = iota
	// presenceAbsent waits for the CustomResourceDefinition.
	presenceAbsent
	// presenceOurs serves it. Its claims are filled.
	presenceOurs
	// presenceForeign leaves it to somebody else, and its claims alone.
	presenceForeign
)

// String says it to the operator, in the log.
func (p presence) String() string {
	switch p {
	case presenceAbsent:
		return "Waiting for the CustomResourceDefinition"
	case presenceOurs:
		return "Filling the claims of a kind"
	case presenceForeign:
		return "Leaving the claims of a kind alone, because its CustomResourceDefinition is not ours"
	}
	return "Looking for the CustomResourceDefinition"
}

func (k *kind) presence() presence     { return presence(k.present.Load()) }
func (k *kind) setPresence(p presence) { k.present.Store(int32(p)) }

// turn takes what was found out of a kind and reports whether that is news. A kind stays ours while its
// CustomResourceDefinition is gone for a while; when somebody else takes it over, only a new process lets go of it.
func (k *kind) turn(found presence) (news bool, err error) {
	switch was := k.presence(); {
	case was == presenceOurs && found == presenceForeign:
		return false, fmt.Errorf("the kind %s belongs to somebody else now: starting over without it", k.name)
	case was == presenceOurs || was == found:
		return false, nil
	}
	k.setPresence(found)
	return true, nil
}

// notFound is the reason of the event on a claim whose source does not exist.
func (k *kind) notFound() string { return k.name + "NotFound" }

// kinds are the kinds that claims are filled from.
type kinds []*kind

func newKinds() kinds {
	return kinds{
		{
			name: kindImage, resource: v1alpha1.GroupVersion().WithResource("vmdiskimages"), install: "deploy/crds",
			object:  func() client.Object { return &v1alpha1.VMDiskImage{} },
			resolve: resolveImage,
			keeper: func(h holder, c clock.PassiveClock) reconcile.Reconciler {
				return &imageController{holder: h, clock: c}
			},
			// Its status follows its imports: it must not wake them.
			matters: predicate.GenerationChangedPredicate{}, finalizer: finalizerImage,
			edited: "the VMDiskImage was changed",
		},
		{
			name: golden.CronKind, resource: cdiv1.SchemeGroupVersion.WithResource("dataimportcrons"), install: "deploy/cdi", foreign: cdi.Foreign,
			object:  func() client.Object { return &cdiv1.DataImportCron{} },
			resolve: resolveCron,
			keeper:  func(h holder, _ clock.PassiveClock) reconcile.Reconciler { return &h },
			matters: revisionChanged(), finalizer: finalizerCron,
			edited: "the DataImportCron has imported another revision",
			moved:  "the source has moved on since it was polled: the next poll finds its new revision, and the import of that starts by itself",
		},
		{
			name: golden.DataSourceKind, resource: cdiv1.SchemeGroupVersion.WithResource("datasources"), install: "deploy/cdi", foreign: cdi.Foreign,
			object:  func() client.Object { return &cdiv1.DataSource{} },
			resolve: resolveDataSource, unwatched: true,
			keeper:  func(h holder, _ clock.PassiveClock) reconcile.Reconciler { return &h },
			matters: leadChanged(), finalizer: finalizerDataSource,
			edited: "the DataSource leads somewhere else now",
			moved:  "the source has moved on since it was imported: the next revision that is imported is another one",
		},
	}
}

// revisionChanged lets a DataImportCron wake its claims when there is another revision for them. It is written
// with every poll.
func revisionChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		for _, annotation := range []string{golden.AnnotationPolled, golden.AnnotationImported} {
			if e.ObjectOld.GetAnnotations()[annotation] != e.ObjectNew.GetAnnotations()[annotation] {
				return true
			}
		}
		return e.ObjectOld.GetUID() != e.ObjectNew.GetUID()
	}}
}

// of is the kind and the name of the source that a claim refers to; nil when it refers to none of ours.
func (all kinds) of(claim *corev1.PersistentVolumeClaim) (*kind, string) {
	ref := claim.Spec.DataSourceRef
	if ref == nil || ref.APIGroup == nil || ref.Namespace != nil && *ref.Namespace != claim.Namespace {
		return nil, ""
	}
	for _, k := range all {
		if k.name == ref.Kind && k.resource.Group == *ref.APIGroup {
			return k, ref.Name
		}
	}
	return nil, ""
}

// ofImport is the kind that an import was made from; nil for one that is none of ours.
func (all kinds) ofImport(imp *v1alpha1.VMDiskImport) *kind {
	for _, k := range all {
		if k.name == kindOf(imp) {
			return k
		}
	}
	return nil
}

// kindOf is the kind of what an import was made from. Imports of earlier versions do not say it.
func kindOf(imp *v1alpha1.VMDiskImport) string {
	if imp.Spec.ImageRef.Kind == "" {
		return kindImage
	}
	return imp.Spec.ImageRef.Kind
}

// sourceKey is the value of the indexes that find what refers to a source.
func sourceKey(kind, name string) string { return kind + "/" + name }
