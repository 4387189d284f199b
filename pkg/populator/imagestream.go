package populator

import (
	"context"
	"errors"

	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/imagestream"
)

// resolve looks up, once for each import, the image that its source's image stream names.
func (c *importController) resolve(ctx context.Context, imp *v1alpha1.VMDiskImport) (ctrl.Result, error) {
	image, err := imagestream.Find(ctx, c.live, imp.Namespace, imageStreamOf(&imp.Spec.Source))
	var refusal *imagestream.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Reason == imagestream.Unsupported:
		return c.fail(ctx, imp, outcome{reason: refusal.Reason, message: refusal.Error()})
	case errors.As(err, &refusal):
		waiting := blocked(refusal.Reason, "%s; the import goes on by itself", refusal)
		return c.wait(ctx, imp, &waiting, nil)
	case err != nil:
		return ctrl.Result{}, err
	}
	found := pending(reasonStarting, "ImageStream %s names %s", imageStreamOf(&imp.Spec.Source), image)
	return ctrl.Result{RequeueAfter: clearAgain}, c.record(ctx, imp, found, func(status *v1alpha1.VMDiskImportStatus) {
		status.ResolvedReference = image
	})
}
