package main

import (
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/utils/ptr"
)

// The rules of DataVolumes are those of CDI's webhook, but for what Gild does not do: that is refused
// by its name, with what to use instead.

func volumeKindRules() []change {
	// The form that a DataVolume has names another populator, or storage of its own, as a claim does.
	const external = "(has(self.pvc) && (has(self.pvc.dataSource) || has(self.pvc.dataSourceRef)) || has(self.storage) && (has(self.storage.dataSource) || has(self.storage.dataSourceRef)))"
	const copies = "has(self.sourceRef) || has(self.source) && (has(self.source.pvc) || has(self.source.snapshot))"
	const one = "name exactly one of http, registry, pvc, snapshot and blank"
	rules := []change{
		// CDI takes edits of checkpoints, which do not exist here.
		rule("spec", "self == oldSelf", "Cannot update DataVolume Spec: delete the DataVolume, and create it anew"),
		noForm("spec"), oneForm("spec"),
		rule("spec", external+" || has(self.source) != has(self.sourceRef)",
			"Data volume should have either Source or SourceRef, or be externally populated: name one of them"),
		rule("spec", "!"+external+" || !has(self.source) && !has(self.sourceRef)",
			"External population is incompatible with Source and SourceRef: leave these out, or dataSource and dataSourceRef"),
		rule("spec", "!has(self.storage) || "+external+" || "+strings.ReplaceAll(sized, "self.", "self.storage.")+" || "+copies,
			"Storage size is missing: say it in resources.requests.storage; only a copy has that of what is copied"),
		rule("spec.pvc", sized, "PVC size is missing: say it in resources.requests.storage"),
		singleAccessMode("spec.pvc"),
		rule("spec", "!has(self.checkpoints) || self.checkpoints.size() == 0",
			"checkpoints are not supported: Gild makes no warm migration; move the whole disk with the machine stopped"),
		most("spec.checkpoints", 64),
		rule("spec", "!has(self.finalCheckpoint) || !self.finalCheckpoint",
			"finalCheckpoint is not supported: Gild makes no warm migration; move the whole disk with the machine stopped"),
		longest("spec.contentType", 16),
		rule("spec.contentType", "self != 'archive'",
			"contentType archive is not supported: put the files in a container image, and name a VMDiskImage with content files in a claim"),
		longest("spec.priorityClassName", 253),
		longest("spec.serviceAccountName", 253),
		rule("spec.source", sources("self")+" > 0", "Missing Data volume source: "+one),
		rule("spec.source", sources("self")+" <= 1", "Multiple Data volume sources: "+one),
		longest("spec.sourceRef.kind", 64),
		longest("spec.sourceRef.name", 253),
		longest("spec.sourceRef.namespace", 63),
		rule("spec.sourceRef", "self.kind == 'DataSource'", "Unsupported sourceRef kind, currently only DataSource is supported"),
		rule("spec.sourceRef", "self.name != ''", "Missing sourceRef name"),
	}
	for _, refused := range []struct{ source, instead string }{
		{"upload", "serve the image from a web server and name it in http, or push it to a registry and name it in registry"},
		{"imageio", "export the disk to a file, serve it over https and name it in http"},
		{"vddk", "export the disk to a file, as virt-v2v or ovftool do, serve it over https and name it in http"},
		{"s3", "name the object's https:// URL, signed in advance if need be, in http"},
		{"gcs", "name the object's https:// URL, signed in advance if need be, in http"},
	} {
		rules = append(rules, rule("spec.source", "!has(self."+refused.source+")", "source "+refused.source+" is not supported: "+refused.instead))
	}
	for _, source := range []string{"s3", "gcs", "imageio", "vddk"} {
		rules = append(rules, bounded("spec.source."+source))
	}
	rules = append(rules, httpRules("spec.source.http", "read")...)
	rules = append(rules, registryRules("spec.source.registry")...)
	rules = append(rules, originRules("spec.source.pvc", "PVC")...)
	rules = append(rules, originRules("spec.source.snapshot", "Snapshot")...)
	for kind, path := range forms("spec") {
		rules = append(rules, volumeRules(path, kind)...)
		rules = append(rules,
			rule(path, "!("+sized+") || !quantity(string(self.resources.requests['storage'])).isGreaterThan(quantity('0')) || !quantity(string(self.resources.requests['storage'])).isLessThan(quantity('1Mi'))",
				kind+" size should be at least 1MiB"),
			rule(path, "!has(self.volumeName)", "volumeName does not go with a DataVolume: it gets a volume of its own"))
	}
	return rules
}

// bounded bounds all texts of an object that is refused anyway: rules that compare need it.
func bounded(path string) change {
	return change{path, func(s *apiextensionsv1.JSONSchemaProps) {
		for name, property := range s.Properties {
			if property.Type == "string" {
				property.MaxLength = ptr.To[int64](2048)
				s.Properties[name] = property
			}
		}
	}}
}

// hollow leaves of what is at path that it is an object: nobody here reads more.
func hollow(path, description string) change {
	return change{path, func(s *apiextensionsv1.JSONSchemaProps) {
		*s = apiextensionsv1.JSONSchemaProps{Type: "object", Description: description, XPreserveUnknownFields: ptr.To(true)}
	}}
}
