package populator

import (
	"net/url"
	"strings"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/importer"
)

// dockerScheme begins the URL of an image in a registry.
const dockerScheme = "docker://"

// reference is the image in a registry that a source names, as host/name[:tag][@digest]; empty when it names none.
func reference(source *v1alpha1.DiskSource) string {
	if source.Registry != nil {
		return strings.TrimPrefix(source.Registry.URL, dockerScheme)
	}
	return source.ImageRef
}

// sourceURL is the URL that the importer reads a source from.
func sourceURL(source *v1alpha1.DiskSource) string {
	switch {
	case source.HTTP != nil:
		return source.HTTP.URL
	case source.Blank != nil:
		return importer.SourceBlank
	}
	return dockerScheme + reference(source)
}

// sourceOf is what an import reads from: what was asked for, with the image in place of the image stream that named it.
func sourceOf(imp *v1alpha1.VMDiskImport) *v1alpha1.DiskSource {
	source := imp.Spec.Source.DeepCopy()
	if imageStreamOf(source) != "" {
		source.Registry.ImageStream, source.Registry.URL = "", dockerScheme+imp.Status.ResolvedReference
	}
	return source
}

// imageStreamOf is the image stream that a source names; empty when it names none.
func imageStreamOf(source *v1alpha1.DiskSource) string {
	if source.Registry == nil {
		return ""
	}
	return source.Registry.ImageStream
}

// pulledByNode reports whether the node fetches a source's image and the importer only reads it.
func pulledByNode(source *v1alpha1.DiskSource) bool {
	return source.Registry != nil && source.Registry.PullMethod == v1alpha1.PullMethodNode
}

// isRootfs reports whether a disk is made of an image's root file system for sure, which needs scratch space.
func isRootfs(source *v1alpha1.DiskSource) bool {
	return source.Registry != nil && source.Registry.Content == v1alpha1.ImageContentRootfs
}

// architectureOf is the architecture that a source asks for; empty for the node's own.
func architectureOf(source *v1alpha1.DiskSource) string {
	if source.Registry == nil || source.Registry.Platform == nil {
		return ""
	}
	return source.Registry.Platform.Architecture
}

// hostOf is the host that an import reads from, for the limit per host.
func hostOf(source *v1alpha1.DiskSource) string {
	u, err := url.Parse(sourceURL(source))
	if err != nil {
		return ""
	}
	return u.Host
}
