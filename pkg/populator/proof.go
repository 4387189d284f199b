package populator

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/snapshot"
)

// resultReused reads what the leader has found out.
func resultReused(state *snapshot.State) (*v1alpha1.ImportResult, error) {
	result := &v1alpha1.ImportResult{}
	if err := json.Unmarshal([]byte(state.Annotations[annotationResult]), result); err != nil {
		return nil, fmt.Errorf("reading the result that a snapshot was taken with: %w", err)
	}
	return result, nil
}

// proof has spec name the source of a follower at the revision that its leader has imported, and finds what opens it:
// whoever may not read that now gets no disk of it. It takes a place among the imports of that host.
func (c *importController) proof(ctx context.Context, imp *v1alpha1.VMDiskImport, spec *v1alpha1.VMDiskImportSpec) (*credentials.Credentials, *state, error) {
	source := sourceOf(imp)
	if waiting, err := c.place(ctx, imp, hostOf(source)); waiting != nil || err != nil {
		return nil, waiting, err
	}
	left, err := reusedSnapshot(ctx, c.snapshots, c.namespace, imp)
	if err != nil {
		return nil, nil, err
	}
	if left == nil { // the next round passes over it
		waiting := pending(reasonWaitingForVolume, "the snapshot of %s is gone", describeOrigin(imp))
		return nil, &waiting, nil
	}
	result, err := resultReused(left)
	if err != nil {
		return nil, nil, err
	}
	spec.Source = *source
	spec.Pin, _ = pinOf(spec, result)
	return readCredentials(ctx, c.live, imp.Namespace, source)
}

// resultOfReuse is what the leader has found out of the disk, and what the importer has done since.
func (c *importController) resultOfReuse(ctx context.Context, imp *v1alpha1.VMDiskImport, found *importer.Result) (result *v1alpha1.ImportResult, why string, err error) {
	left, err := reusedSnapshot(ctx, c.snapshots, c.namespace, imp)
	if err != nil {
		return nil, "", err
	}
	if left == nil {
		return nil, "the snapshot of " + describeOrigin(imp) + " is gone", nil
	}
	if result, err = resultReused(left); err != nil {
		return nil, "", err
	}
	own := importResult(found, c.clock.Now())
	result.TransferredBytes, result.WrittenBytes, result.ScratchBytes, result.Passes = own.TransferredBytes, own.WrittenBytes, own.ScratchBytes, own.Passes
	result.Seconds, result.Time = own.Seconds, own.Time
	return result, "", nil
}

// alsoOfAnImport reports whether an attempt to prove the source would have failed as an import of its own. What else can
// go wrong with a restored volume an import of its own mends.
func alsoOfAnImport(o *outcome) bool {
	switch importer.Reason(o.reason) {
	case importer.InvalidSecret, importer.InvalidCertificates, importer.SignatureRejected, importer.DigestMismatch:
		return true
	}
	return o.exit == importer.ExitSource
}
