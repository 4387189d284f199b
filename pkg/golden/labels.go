package golden

import "strings"

// PassesLabel reports whether a label of a golden claim is passed on to the DataSources that name it:
// KubeVirt's labels are, such as the default instance type, as CDI has it. Those of
// cdi.kubevirt.io are not: they say who manages an object.
func PassesLabel(label string) bool {
	domain, _, ok := strings.Cut(label, "/")
	return ok && (domain == "kubevirt.io" || strings.HasSuffix(domain, ".kubevirt.io")) && domain != "cdi.kubevirt.io"
}
