package populator

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// imageStream is what an import reads of OpenShift's ImageStream.
type imageStream struct {
	Status struct {
		Tags []struct {
			Tag string `json:"tag"`
			// Items are the images that the tag has named, the newest first.
			Items []struct {
				DockerImageReference string `json:"dockerImageReference"`
			} `json:"items"`
			Conditions []struct {
				Message string `json:"message"`
			} `json:"conditions"`
		} `json:"tags"`
	} `json:"status"`
}

// imageStreamKind is OpenShift's. Clusters without OpenShift do not know it, so it is read without a type of ours.
func imageStreamKind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "image.openshift.io", Version: "v1", Kind: "ImageStream"}
}

// resolve looks up, once for each import, the image that its source's image stream names.
func (c *importController) resolve(ctx context.Context, imp *v1alpha1.VMDiskImport) (ctrl.Result, error) {
	name, tag, _ := strings.Cut(imageStreamOf(&imp.Spec.Source), ":")
	tag = cmp.Or(tag, "latest")
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(imageStreamKind())
	err := c.live.Get(ctx, types.NamespacedName{Namespace: imp.Namespace, Name: name}, object)
	switch {
	case meta.IsNoMatchError(err):
		return c.fail(ctx, imp, outcome{reason: reasonImageStreamUnsupported,
			message: "this cluster has no image streams (image.openshift.io/v1): name the image by its url"})
	case apierrors.IsNotFound(err):
		waiting := blocked(reasonImageStreamNotFound, "ImageStream %s does not exist in namespace %s: create it, the import goes on by itself", name, imp.Namespace)
		return c.wait(ctx, imp, &waiting, nil)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("reading ImageStream %s: %w", name, err)
	}
	image, waiting := newestImage(object, tag)
	if waiting != nil {
		return c.wait(ctx, imp, waiting, nil)
	}
	found := pending(reasonStarting, "ImageStream %s names %s", name, image)
	return ctrl.Result{RequeueAfter: clearAgain}, c.record(ctx, imp, found, func(status *v1alpha1.VMDiskImportStatus) {
		status.ResolvedReference = image
	})
}

// newestImage is the image that a tag of a stream names now, or why there is none.
func newestImage(object *unstructured.Unstructured, tag string) (string, *state) {
	stream := &imageStream{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, stream); err != nil {
		waiting := blocked(reasonImageStreamNotFound, "ImageStream %s cannot be understood: %s", object.GetName(), err)
		return "", &waiting
	}
	why := "it has no such tag"
	for _, t := range stream.Status.Tags {
		switch {
		case t.Tag != tag:
			continue
		case len(t.Items) > 0 && isReference(t.Items[0].DockerImageReference):
			return t.Items[0].DockerImageReference, nil
		case len(t.Items) > 0:
			why = "its dockerImageReference is not the name of an image"
		case len(t.Conditions) > 0:
			why = "it has imported none yet: " + t.Conditions[0].Message
		default:
			why = "it has imported none yet"
		}
	}
	waiting := blocked(reasonImageStreamNotFound, "ImageStream %s names no image for tag %s: %s", object.GetName(), tag, why)
	return "", &waiting
}

// isReference reports whether a text that no rule has checked can be the name of an image with its host.
func isReference(text string) bool {
	u, err := url.Parse(dockerScheme + text)
	return err == nil && len(text) <= maxReference && u.Host != "" && strings.Trim(u.Path, "/") != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}
