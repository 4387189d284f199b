package populator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// resolveImage copies what a VMDiskImage asks for.
func resolveImage(_ *corev1.PersistentVolumeClaim, source client.Object) (*v1alpha1.VMDiskImportSpec, *state) {
	image, ok := source.(*v1alpha1.VMDiskImage)
	if !ok {
		return nil, notOurs(source)
	}
	return &v1alpha1.VMDiskImportSpec{
		ImageRef:  v1alpha1.ImageReference{Kind: kindImage, Name: image.Name, UID: image.UID, Generation: image.Generation},
		ImageSpec: *image.Spec.ImageSpec.DeepCopy(),
	}, nil
}

// resolveCron takes a revision of a DataImportCron: a golden claim the one that it is made for, and any
// other claim the last one that was imported.
func resolveCron(claim *corev1.PersistentVolumeClaim, source client.Object) (*v1alpha1.VMDiskImportSpec, *state) {
	cron, ok := source.(*cdiv1.DataImportCron)
	if !ok {
		return nil, notOurs(source)
	}
	choose := currentRevision
	if isGolden(claim, cron) {
		choose = goldenRevision
	}
	revision, waiting := choose(claim, cron)
	if waiting != nil {
		return nil, waiting
	}
	if revision.Claim != nil {
		return nil, because(reasonCopyUnsupported, "DataImportCron %s copies claim %s/%s, and copies of claims are not made yet: let its source be a web server or a registry",
			cron.Name, revision.Claim.Namespace, revision.Claim.Name)
	}
	return &v1alpha1.VMDiskImportSpec{
		ImageRef:     v1alpha1.ImageReference{Kind: golden.CronKind, Name: cron.Name, UID: cron.UID, Revision: revision.Digest},
		ImageSpec:    v1alpha1.ImageSpec{Source: revision.Source, Checksum: revision.Checksum},
		Pin:          revision.Pin,
		RecordDigest: isGolden(claim, cron),
	}, nil
}

// isGolden reports whether a claim was made to hold one revision of a cron.
func isGolden(claim *corev1.PersistentVolumeClaim, cron *cdiv1.DataImportCron) bool {
	return claim.Labels[golden.LabelCron] == cron.Name && claim.Annotations[golden.AnnotationRevision] != ""
}

// goldenRevision is the revision that a golden claim names, as its cron has it. What the claim itself says
// of it is not believed: who may create claims could have a Secret that he must not read sent to a server
// of his own.
func goldenRevision(claim *corev1.PersistentVolumeClaim, cron *cdiv1.DataImportCron) (*golden.Revision, *state) {
	named, err := golden.ParseRevision(claim.Annotations[golden.AnnotationRevision])
	if err != nil {
		return nil, because(reasonRevisionUnknown, "annotation %s of the claim: %s", golden.AnnotationRevision, err)
	}
	for _, annotation := range []string{golden.AnnotationPolled, golden.AnnotationImported} {
		if known, err := golden.ParseRevision(cron.Annotations[annotation]); err == nil && known.Digest == named.Digest {
			return known, nil
		}
	}
	return nil, because(reasonRevisionUnknown, "revision %s is neither the one that DataImportCron %s has polled last nor the one it has imported last: delete the claim",
		named.Digest, cron.Name)
}

// currentRevision is the last one that was imported: its golden claim is known to be good.
func currentRevision(_ *corev1.PersistentVolumeClaim, cron *cdiv1.DataImportCron) (*golden.Revision, *state) {
	text := cron.Annotations[golden.AnnotationImported]
	if text == "" {
		return nil, because(reasonNothingImported, "DataImportCron %s has imported nothing yet: the import starts by itself once it has", cron.Name)
	}
	revision, err := golden.ParseRevision(text)
	if err != nil {
		return nil, because(reasonRevisionUnknown, "annotation %s of DataImportCron %s: %s", golden.AnnotationImported, cron.Name, err)
	}
	return revision, nil
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

// resolve reads the source of a claim and says what its import does, or what it waits for: then spec is nil. What
// the cache does not know yet may have been applied together with the claim.
func (c *claimController) resolve(ctx context.Context, claim *corev1.PersistentVolumeClaim, k *kind, name string) (source client.Object, spec *v1alpha1.VMDiskImportSpec, waiting *state, err error) {
	if k.presence() != presenceOurs {
		return nil, nil, because(k.notFound(), "this cluster does not know the kind %s: apply %s, the import starts by itself", k.name, k.install), nil
	}
	for _, reader := range []client.Reader{c.client, c.live} {
		source = k.object()
		err = reader.Get(ctx, types.NamespacedName{Namespace: claim.Namespace, Name: name}, source)
		switch {
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
			source, waiting = nil, missing(k, claim, name)
			continue
		case err != nil:
			return nil, nil, nil, fmt.Errorf("reading %s %s: %w", k.name, name, err)
		}
		if spec, waiting = k.resolve(claim, source); spec != nil {
			break
		}
	}
	return source, spec, waiting, nil
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
	spec, _ := k.resolve(claim, source)
	was := imp.Spec.ImageRef
	was.Kind = kindOf(imp)
	return spec != nil && spec.ImageRef != was, nil
}
