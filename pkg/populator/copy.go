package populator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/export"
	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/strategy"
)

const (
	// copyPatience is how long an exporter may take until it answers.
	copyPatience = 3 * time.Minute
	// exportAgain is how often one is looked at until then; each look is a few requests.
	exportAgain = 2 * time.Second
)

// turnedOff is why a copy that was begun does not go on.
const turnedOff = "copies of volumes are turned off by now: start the populator with --copy"

// exports make volumes readable over the network; pkg/export has them.
type exports interface {
	Ensure(ctx context.Context, spec export.Spec) (export.State, error)
	Writers(ctx context.Context, claim types.NamespacedName) ([]string, error)
	Clear(ctx context.Context, namespace, id string) (gone bool, err error)
}

// copyVolume makes the next attempt at reading the disk from the volume that has it, or says what it waits for.
func (c *importController) copyVolume(ctx context.Context, imp *v1alpha1.VMDiskImport, claim *corev1.PersistentVolumeClaim) (ctrl.Result, error) {
	if !c.copies {
		return c.passOver(ctx, imp, turnedOff)
	}
	if waiting, err := c.notGranted(ctx, imp); waiting != nil || err != nil {
		return c.letGoOfSource(ctx, imp, waiting, err)
	}
	source, lost, err := c.copiedClaim(ctx, imp.Spec.CopyOf)
	switch {
	case err != nil:
		return c.wait(ctx, imp, nil, err)
	case lost != "":
		return c.passOver(ctx, imp, lost)
	}
	// The place comes first: nothing is asked nor made for an import that has to wait in line.
	if waiting, err := c.place(ctx, imp, hostOfCopy(imp)); waiting != nil || err != nil {
		return c.queued(ctx, imp, waiting, err)
	}
	if waiting, err := c.writersOf(ctx, imp); waiting != nil || err != nil {
		return c.letGoOfSource(ctx, imp, waiting, err)
	}
	target, waiting, err := c.target(ctx, claim)
	if waiting != nil || err != nil {
		c.wake(claimOf(imp))
		return c.wait(ctx, imp, waiting, err)
	}
	exported, err := c.exports.Ensure(ctx, c.exportOf(imp, source))
	switch {
	case err != nil:
		return c.wait(ctx, imp, nil, err)
	case exported.Failure != "":
		return c.passOver(ctx, imp, exported.Failure)
	case !exported.Ready && c.clock.Since(exported.Started) > copyPatience:
		return c.passOver(ctx, imp, fmt.Sprintf("the exporter of %s does not answer after %s: %s", describeCopied(imp.Spec.CopyOf), copyPatience, exported.Waiting))
	case !exported.Ready:
		waiting := pending(reasonExporting, "the exporter of %s is starting: %s", describeCopied(imp.Spec.CopyOf), cmp.Or(exported.Waiting, "its pod is being made"))
		// An exporter that starts is read as soon as it answers, and it is given up before long.
		c.queue.keep(claimOf(imp), c.clock.Now())
		return ctrl.Result{RequeueAfter: exportAgain}, c.record(ctx, imp, waiting, nil)
	}
	format, err := c.formatOf(ctx, source)
	if err != nil {
		return c.wait(ctx, imp, nil, err)
	}
	if clean, err := c.ready(ctx, imp); err != nil || !clean {
		return ctrl.Result{RequeueAfter: clearAgain}, err
	}
	return c.launch(ctx, imp, &attempt{
		number: imp.Status.Attempts + 1, importUID: imp.UID, spec: specOfCopy(&imp.Spec, exported.URL, format, claim), claim: claim, target: target,
		sourceFormat: format, host: hostOfCopy(imp), credentials: credentialsOf(&exported),
		scratch: imp.Status.ScratchRequired, image: c.importerImage, template: c.template,
	})
}

// queued waits in line without an exporter, which would end for want of a reader: after a restart others may have the
// places now.
func (c *importController) queued(ctx context.Context, imp *v1alpha1.VMDiskImport, waiting *state, err error) (ctrl.Result, error) {
	if err == nil && imp.Status.Phase != v1alpha1.PhaseQueued {
		if gone, err := c.clearExport(ctx, imp); err != nil || !gone {
			return ctrl.Result{RequeueAfter: clearAgain}, err
		}
	}
	return c.wait(ctx, imp, waiting, err)
}

// clearExport removes what the source of a copy is read from. Where copies are turned off the permission may be gone
// as well: nothing waits for it then, and the sweeper tells of what is left.
func (c *importController) clearExport(ctx context.Context, imp *v1alpha1.VMDiskImport) (gone bool, err error) {
	if !tried(imp, v1alpha1.StrategyCopy) {
		return true, nil
	}
	gone, err = c.exports.Clear(ctx, imp.Spec.CopyOf.Namespace, string(imp.UID))
	if !c.copies && apierrors.IsForbidden(err) {
		return true, nil
	}
	return gone, err
}

// hostOfCopy stands for the volume that is read, for the limit per host.
func hostOfCopy(imp *v1alpha1.VMDiskImport) string {
	return imp.Spec.CopyOf.Namespace + "/" + imp.Spec.CopyOf.Name
}

// exportOf is the export of a claim for one import.
func (c *importController) exportOf(imp *v1alpha1.VMDiskImport, source *corev1.PersistentVolumeClaim) export.Spec {
	labels, _ := c.marksOf(imp)
	return export.Spec{
		ID: string(imp.UID), Claim: types.NamespacedName{Namespace: source.Namespace, Name: source.Name}, ClaimUID: source.UID, ReadOnlyDevice: isBlock(source),
		Image: c.importerImage, Revision: string(source.UID), Labels: labels,
	}
}

// credentialsOf are what an export is read with.
func credentialsOf(exported *export.State) *credentials.Credentials {
	return &credentials.Credentials{
		Secret: map[string][]byte{"token": []byte(exported.Token)},
		CA:     &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "export"}, Data: map[string]string{"ca.crt": string(exported.CA)}},
	}
}

// specOfCopy is what the importer does to copy a volume: it reads the export, and checks nothing of what the disk
// was once made from. A qcow2 disk stays one where there is a file system to hold it.
func specOfCopy(spec *v1alpha1.VMDiskImportSpec, url, format string, claim *corev1.PersistentVolumeClaim) v1alpha1.VMDiskImportSpec {
	read := *spec
	read.ImageSpec = v1alpha1.ImageSpec{Source: v1alpha1.DiskSource{HTTP: &v1alpha1.HTTPSource{URL: url}}, Format: spec.Format, Size: spec.Size}
	if format == importer.FormatQcow2 && !isBlock(claim) {
		read.Format = v1alpha1.DiskFormatQcow2
	}
	read.Pin, read.RecordDigest = nil, false
	return read
}

// formatOf is the format of the disk on a volume, as the import that has filled it says. It is never found out
// from the bytes: a guest can write what looks like any format.
func (c *importController) formatOf(ctx context.Context, source *corev1.PersistentVolumeClaim) (string, error) {
	made, err := c.importThatFilled(ctx, source)
	return string(formatLeft(made)), err
}

// formatLeft is the format of the disk that an import has left on its volume. Of one that nobody knows of it is
// raw: KubeVirt takes every disk.img for that. Imports of earlier versions only say what they were asked for.
func formatLeft(made *v1alpha1.VMDiskImport) v1alpha1.DiskFormat {
	switch {
	case made == nil:
		return v1alpha1.DiskFormatRaw
	case made.Status.Result != nil && made.Status.Result.Format != "":
		return made.Status.Result.Format
	}
	return cmp.Or(made.Spec.Format, v1alpha1.DiskFormatRaw)
}

// formatWritten is the format of the disk that a Job writes, whatever became of the record of its source since.
func formatWritten(job *batchv1.Job) v1alpha1.DiskFormat {
	for _, container := range job.Spec.Template.Spec.Containers {
		if container.Name == importerContainer && slices.Contains(container.Args, "--target-format="+importer.FormatQcow2) {
			return v1alpha1.DiskFormatQcow2
		}
	}
	return v1alpha1.DiskFormatRaw
}

// writersOf says which pods may write to the volume that is read; nil when none does.
func (c *importController) writersOf(ctx context.Context, imp *v1alpha1.VMDiskImport) (*state, error) {
	if imp.Status.Strategy != v1alpha1.StrategyCopy {
		return nil, nil
	}
	of := imp.Spec.CopyOf
	writers, err := c.exports.Writers(ctx, types.NamespacedName{Namespace: of.Namespace, Name: of.Name})
	if err != nil || len(writers) == 0 {
		return nil, err
	}
	slices.Sort(writers)
	return because(strategy.WaitForWriters, "%s may be written to by %s: stop that, the copy goes on by itself", describeCopied(of), strings.Join(writers, ", ")), nil
}

// letGoOfSource waits without keeping the source's volume from anybody.
func (c *importController) letGoOfSource(ctx context.Context, imp *v1alpha1.VMDiskImport, waiting *state, err error) (ctrl.Result, error) {
	if err == nil {
		_, err = c.clearCopied(ctx, imp)
	}
	return c.wait(ctx, imp, waiting, err)
}

// disturbed ends an attempt whose source somebody may write to by now, or that may read it no longer; nil when it goes on.
func (c *importController) disturbed(ctx context.Context, imp *v1alpha1.VMDiskImport) (*outcome, error) {
	if !c.copies && imp.Status.Strategy == v1alpha1.StrategyCopy {
		return &outcome{reason: reasonPassedOver, message: turnedOff}, nil
	}
	waiting, err := c.writersOf(ctx, imp)
	if err != nil || waiting == nil {
		return nil, err
	}
	return &outcome{reason: waiting.reason, message: waiting.message}, nil
}
