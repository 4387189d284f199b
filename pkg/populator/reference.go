package populator

import (
	"net/url"
	"strings"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// dockerScheme begins the URL of an image in a registry.
const dockerScheme = "docker://"

// reference is the image in a registry that a source names, as host/name[:tag][@digest]; empty when it names none, or
// one that has to be looked up.
func reference(source *v1alpha1.DiskSource) string {
	if source.Registry != nil {
		return strings.TrimPrefix(source.Registry.URL, dockerScheme)
	}
	return source.ImageRef
}

// sourceURL is the URL that the importer reads a source from.
func sourceURL(source *v1alpha1.DiskSource) string {
	if source.HTTP != nil {
		return source.HTTP.URL
	}
	return dockerScheme + reference(source)
}

// hostOf is the host that an import reads from, for the limit per host.
func hostOf(source *v1alpha1.DiskSource) string {
	u, err := url.Parse(sourceURL(source))
	if err != nil {
		return ""
	}
	return u.Host
}
