package populator

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// readers are where resolve looks: in the cache or at the API server, and at live for what is never cached.
type readers struct {
	client.Reader
	live client.Reader
}

// resolveImage copies what a VMDiskImage asks for.
func resolveImage(_ context.Context, _ readers, _ *corev1.PersistentVolumeClaim, source client.Object) (*v1alpha1.VMDiskImportSpec, *state, error) {
	image, ok := source.(*v1alpha1.VMDiskImage)
	if !ok {
		return nil, notOurs(source), nil
	}
	return &v1alpha1.VMDiskImportSpec{
		ImageRef:  v1alpha1.ImageReference{Kind: kindImage, Name: image.Name, UID: image.UID, Generation: image.Generation},
		ImageSpec: *image.Spec.ImageSpec.DeepCopy(),
	}, nil, nil
}

// because is a wait for what somebody outside must do, before there is an import to tell it.
func because(reason, format string, args ...any) *state {
	s := blocked(reason, format, args...)
	return &s
}

// missing says that the source of a claim does not exist.
func missing(k *kind, claim *corev1.PersistentVolumeClaim, name string) *state {
	return because(k.notFound(), "%s %s does not exist in namespace %s: create it, the import starts by itself", k.name, name, claim.Namespace)
}

func notOurs(source client.Object) *state {
	return because(reasonSourceUnknown, "%T is none of the kinds that claims are filled from", source)
}

// askedFor reads the source of a claim and says what its import does, or what it waits for: then spec is nil. What
// the cache does not know yet may have been applied together with the claim.
func (r *remains) askedFor(ctx context.Context, claim *corev1.PersistentVolumeClaim, k *kind, name string) (source client.Object, spec *v1alpha1.VMDiskImportSpec, waiting *state, err error) {
	if k.presence() != presenceOurs {
		return nil, nil, because(k.notFound(), "this cluster does not know the kind %s: apply %s, the import starts by itself", k.name, k.install), nil
	}
	for _, reader := range []client.Reader{r.client, r.live} {
		source = k.object()
		err = reader.Get(ctx, types.NamespacedName{Namespace: claim.Namespace, Name: name}, source)
		switch {
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
			source, waiting, err = nil, missing(k, claim, name), nil
			continue
		case err != nil:
			return nil, nil, nil, fmt.Errorf("reading %s %s: %w", k.name, name, err)
		}
		spec, waiting, err = k.resolve(ctx, readers{reader, r.live}, claim, source)
		if spec != nil || err != nil {
			break
		}
	}
	return source, spec, waiting, err
}

// editedBefore is sourceEdited for an import that goes on: one that has not begun must do all that its claim asks
// for, and a copy that has begun keeps what it copies, wherever its DataSource leads now.
func (c *importController) editedBefore(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (bool, error) {
	switch {
	case !begun(imp):
		return c.notAskedFor(ctx, imp, claim)
	case imp.Spec.CopyOf != nil:
		return false, nil
	}
	return c.sourceEdited(ctx, imp, claim)
}

// undecided reports whether an import has not begun and nobody knows yet whether its kind is ours to serve.
func (c *importController) undecided(imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) bool {
	k, _ := c.kinds.of(claim)
	return !begun(imp) && k != nil && k.presence() != presenceOurs
}

// notAskedFor reports whether an import is another one than its claim asks for now. Who may create imports could
// otherwise have a golden claim filled with a disk of his own, by an import that is there before ours.
func (c *importController) notAskedFor(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (bool, error) {
	k, name := c.kinds.of(claim)
	if k == nil || imp.Name != claim.Name {
		return true, nil
	}
	source, spec, _, err := c.askedFor(ctx, claim, k, name)
	if err != nil {
		return false, err
	}
	if spec == nil || !source.GetDeletionTimestamp().IsZero() {
		return true, nil
	}
	return !sameImport(&newImport(claim, spec).Spec, &imp.Spec), nil
}

// sameImport reports whether two imports do the same. The API server has filled in what one of them leaves out.
func sameImport(a, b *v1alpha1.VMDiskImportSpec) bool {
	return equality.Semantic.DeepEqual(withDefaults(a), withDefaults(b))
}

// withDefaults fills in what the API server does.
func withDefaults(spec *v1alpha1.VMDiskImportSpec) *v1alpha1.VMDiskImportSpec {
	full := spec.DeepCopy()
	full.ImageRef.Kind = cmp.Or(full.ImageRef.Kind, kindImage)
	full.Format = cmp.Or(full.Format, v1alpha1.DiskFormatRaw)
	full.Reuse = cmp.Or(full.Reuse, v1alpha1.ReuseAuto)
	if registry := full.Source.Registry; registry != nil {
		registry.Content = cmp.Or(registry.Content, v1alpha1.ImageContentAuto)
		registry.PullMethod = cmp.Or(registry.PullMethod, v1alpha1.PullMethodPod)
	}
	return full
}

// sourceEdited reports whether an import made now would do something else. While its source does not
// exist, or cannot tell, there is nothing to start anew from.
func (c *importController) sourceEdited(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (bool, error) {
	k := c.kinds.ofImport(imp)
	if k == nil || k.presence() != presenceOurs {
		return false, nil
	}
	source := k.object()
	err := c.client.Get(ctx, types.NamespacedName{Namespace: imp.Namespace, Name: imp.Spec.ImageRef.Name}, source)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading %s %s: %w", k.name, imp.Spec.ImageRef.Name, err)
	}
	if !source.GetDeletionTimestamp().IsZero() {
		return false, nil
	}
	spec, _, err := k.resolve(ctx, readers{c.client, c.live}, claim, source)
	if err != nil || spec == nil {
		return false, err
	}
	was := imp.Spec.ImageRef
	was.Kind = kindOf(imp)
	return spec.ImageRef != was || !equality.Semantic.DeepEqual(spec.CopyOf, imp.Spec.CopyOf), nil
}
