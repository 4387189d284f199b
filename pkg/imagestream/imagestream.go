// Package imagestream finds the image that a tag of an OpenShift ImageStream names. Clusters
// without OpenShift do not know the kind, so it is read without a type of its own.
package imagestream

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
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The reasons of a Refusal.
const (
	// NotFound means that there is no such stream, or that it names no image yet.
	NotFound = "ImageStreamNotFound"
	// Unsupported means that the cluster has no image streams.
	Unsupported = "ImageStreamUnsupported"
)

// maxReference is how long the name of an image may be, as the rules of VMDiskImage have it.
const maxReference = 1024

// Refusal tells why there is no image.
type Refusal struct {
	Reason  string
	message string
}

func refuse(reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, message: fmt.Sprintf(format, args...)}
}

// Error says what is wrong and what to do.
func (r *Refusal) Error() string { return r.message }

// Kind is OpenShift's.
func Kind() schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "image.openshift.io", Version: "v1", Kind: "ImageStream"}
}

// stream is what is read of an ImageStream.
type stream struct {
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

// Find reads a stream, written name or name:tag, and returns the image that its tag names now, as
// host/name and a tag or digest. Without a tag it is latest. An error that is a Refusal says why
// there is none.
func Find(ctx context.Context, live client.Reader, namespace, text string) (image string, err error) {
	name, tag, _ := strings.Cut(text, ":")
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(Kind())
	err = live.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, object)
	switch {
	case meta.IsNoMatchError(err):
		return "", refuse(Unsupported, "this cluster has no image streams (%s): name the image by its url", Kind().GroupVersion())
	case apierrors.IsNotFound(err):
		return "", refuse(NotFound, "ImageStream %s does not exist in namespace %s: create it", name, namespace)
	case err != nil:
		return "", fmt.Errorf("reading ImageStream %s: %w", name, err)
	}
	return newest(object, cmp.Or(tag, "latest"))
}

// newest is the image that a tag of a stream names now.
func newest(object *unstructured.Unstructured, tag string) (string, error) {
	s := &stream{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, s); err != nil {
		return "", refuse(NotFound, "ImageStream %s cannot be understood: %s", object.GetName(), err)
	}
	why := "it has no such tag"
	for _, t := range s.Status.Tags {
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
	return "", refuse(NotFound, "ImageStream %s names no image for tag %s: %s", object.GetName(), tag, why)
}

// isReference reports whether a text that no rule has checked can be the name of an image with its host.
func isReference(text string) bool {
	u, err := url.Parse("docker://" + text)
	return err == nil && len(text) <= maxReference && u.Host != "" && strings.Trim(u.Path, "/") != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}
