package populator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/golden"
)

// resolveCron takes a revision of a DataImportCron: a golden claim the one that it is made for, and any
// other claim the last one that was imported, from the golden claim that has it.
func resolveCron(ctx context.Context, r readers, claim *corev1.PersistentVolumeClaim, source client.Object) (*v1alpha1.VMDiskImportSpec, *state, error) {
	cron, ok := source.(*cdiv1.DataImportCron)
	if !ok {
		return nil, notOurs(source), nil
	}
	choose := currentRevision
	if isGolden(claim, cron) {
		choose = goldenRevision
	}
	revision, waiting := choose(claim, cron)
	if waiting != nil {
		return nil, waiting, nil
	}
	spec := &v1alpha1.VMDiskImportSpec{
		ImageRef:     v1alpha1.ImageReference{Kind: golden.CronKind, Name: cron.Name, UID: cron.UID, Revision: revision.Digest},
		RecordDigest: isGolden(claim, cron),
	}
	importFrom(spec, revision)
	if copied := revision.Claim; copied != nil {
		spec.CopyOf = &v1alpha1.CopySource{
			Kind: v1alpha1.CopyOfClaim, Namespace: copied.Namespace, Name: copied.Name, UID: copied.UID,
			ServiceAccountName: ptr.Deref(cron.Spec.ServiceAccountName, ""),
		}
	}
	if isGolden(claim, cron) {
		return spec, nil, nil
	}
	holder, err := goldenClaimOf(ctx, r, cron, revision, claim)
	if holder != nil {
		spec.CopyOf = copyOfClaim(holder)
	}
	return spec, nil, err
}

// importFrom has an import fetch a revision of a cron.
func importFrom(spec *v1alpha1.VMDiskImportSpec, revision *golden.Revision) {
	spec.ImageSpec = v1alpha1.ImageSpec{Source: revision.Source, Checksum: revision.Checksum}
	spec.Pin = revision.Pin
}

// isGolden reports whether a claim was made to hold one revision of a cron.
func isGolden(claim *corev1.PersistentVolumeClaim, cron *cdiv1.DataImportCron) bool {
	return isGoldenOf(claim, cron.Name)
}

func isGoldenOf(claim *corev1.PersistentVolumeClaim, cron string) bool {
	return cron != "" && claim.Labels[golden.LabelCron] == cron && claim.Annotations[golden.AnnotationRevision] != ""
}

// isVerified reports whether a golden claim was seen to hold its revision, and stays.
func isVerified(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[golden.AnnotationVerified] != "" && claim.Status.Phase == corev1.ClaimBound && claim.DeletionTimestamp.IsZero()
}

// goldenClaimOf finds the golden claim that holds a revision of a cron, nil when there is none: the one on the
// StorageClass of the claim if there are several, since that can be the fastest.
func goldenClaimOf(ctx context.Context, r readers, cron *cdiv1.DataImportCron, revision *golden.Revision, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	var claims corev1.PersistentVolumeClaimList
	if err := r.List(ctx, &claims, client.InNamespace(cron.Namespace), client.MatchingLabels{golden.LabelCron: cron.Name}); err != nil {
		return nil, fmt.Errorf("listing the golden claims of %s: %w", cron.Name, err)
	}
	var found *corev1.PersistentVolumeClaim
	for i := range claims.Items {
		candidate := &claims.Items[i]
		named, err := golden.ParseRevision(candidate.Annotations[golden.AnnotationRevision])
		if err != nil || named.Digest != revision.Digest || !isVerified(candidate) {
			continue
		}
		if ptr.Deref(candidate.Spec.StorageClassName, "") == ptr.Deref(claim.Spec.StorageClassName, "") {
			return candidate, nil
		}
		if found == nil || candidate.Name < found.Name {
			found = candidate
		}
	}
	return found, nil
}

func copyOfClaim(claim *corev1.PersistentVolumeClaim) *v1alpha1.CopySource {
	return &v1alpha1.CopySource{Kind: v1alpha1.CopyOfClaim, Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID}
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
