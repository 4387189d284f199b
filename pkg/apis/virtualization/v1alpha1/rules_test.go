package v1alpha1_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gild-project/gild/test/definition"
)

const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// image is a VMDiskImage with a spec, written as the inside of a YAML flow mapping.
func image(t *testing.T, spec string) *unstructured.Unstructured {
	t.Helper()
	return definition.Parse(t, "{apiVersion: virtualization.k8s.io/v1alpha1, kind: VMDiskImage, metadata: {name: image}, spec: {"+spec+"}}")
}

func TestSources(t *testing.T) {
	vmdi := loadKind(t, "vmdiskimages")
	for name, test := range map[string]struct {
		spec string
		// refused is part of what it is refused for; empty when it is taken.
		refused string
	}{
		"http":              {`source: {http: {url: "https://images.example.org/disk"}}`, ""},
		"no source":         {`source: {}`, "exactly one source: http, registry, imageRef or blank"},
		"two sources":       {`source: {imageRef: registry.example.org/disk, http: {url: "https://images.example.org/disk"}}`, "exactly one source"},
		"all sources":       {`source: {imageRef: registry.example.org/disk, registry: {url: "docker://registry.example.org/disk"}, http: {url: "https://images.example.org/disk"}}`, "exactly one source"},
		"blank":             {`source: {blank: {}}, size: 1Gi`, ""},
		"blank of no size":  {`source: {blank: {}}`, "a blank disk needs a size"},
		"blank and another": {`source: {blank: {}, imageRef: registry.example.org/disk}, size: 1Gi`, "exactly one source"},
		"blank of a sum":    {`source: {blank: {}}, size: 1Gi, checksum: "` + digest + `"`, "checksum does not go with a blank disk"},
		"an empty imageRef": {`source: {imageRef: ""}`, "imageRef must be host/name"},
		"an unknown field":  {`source: {imageRef: registry.example.org/disk, pull: node}`, "unknown field"},

		"a name":                     {`source: {imageRef: registry.example.org/disk}`, ""},
		"a tag":                      {`source: {imageRef: "registry.example.org/disks/debian:12"}`, ""},
		"a digest":                   {`source: {imageRef: "registry.example.org/disk@` + digest + `"}`, ""},
		"a tag and a digest":         {`source: {imageRef: "registry.example.org/disk:12@` + digest + `"}`, ""},
		"a port":                     {`source: {imageRef: "registry:5000/a/b__c/d-e.f:V_1.2-3"}`, ""},
		"localhost":                  {`source: {imageRef: "localhost/disk"}`, ""},
		"localhost with a port":      {`source: {imageRef: "localhost:5000/disk"}`, ""},
		"an address":                 {`source: {imageRef: "192.0.2.1:5000/disk"}`, ""},
		"an address of version 6":    {`source: {imageRef: "[2001:db8::1]:5000/disk"}`, ""},
		"a scheme":                   {`source: {imageRef: "docker://registry.example.org/disk"}`, "without docker://"},
		"no host":                    {`source: {imageRef: "ubuntu:22.04"}`, "say its registry's host"},
		"a folder for a host":        {`source: {imageRef: "library/ubuntu:22.04"}`, "say its registry's host"},
		"no name":                    {`source: {imageRef: registry.example.org/}`, "host/name"},
		"only a host":                {`source: {imageRef: registry.example.org}`, "host/name"},
		"two ports":                  {`source: {imageRef: "registry:5000:6000/disk"}`, "host/name"},
		"an upper case name":         {`source: {imageRef: registry.example.org/Disk}`, "lower case"},
		"a parent folder":            {`source: {imageRef: registry.example.org/../disk}`, "host/name"},
		"a query":                    {`source: {imageRef: "registry.example.org/disk?a=b"}`, "host/name"},
		"a blank":                    {`source: {imageRef: "registry.example.org/disk "}`, "host/name"},
		"a short digest":             {`source: {imageRef: "registry.example.org/disk@sha256:9f86"}`, "host/name"},
		"a user in a name":           {`source: {imageRef: "me:secret@registry.example.org/disk"}`, "host/name"},
		"a name of more than 1 KiB":  {`source: {imageRef: "registry.example.org/` + strings.Repeat("a", 1024) + `"}`, "1024"},
		"a line break after the end": {`source: {imageRef: "registry.example.org/disk\n"}`, "host/name"},

		"a registry":               {`source: {registry: {url: "docker://registry.example.org/disks/debian:12"}}`, ""},
		"all of a registry":        {`source: {registry: {url: "docker://registry.example.org/disk", pullMethod: pod, secretRef: a, certConfigMap: b, platform: {architecture: arm64}, content: rootfs}}`, ""},
		"no image":                 {`source: {registry: {}}`, "exactly one image: url or imageStream"},
		"two images":               {`source: {registry: {url: "docker://registry.example.org/disk", imageStream: disk}}`, "exactly one image"},
		"a url without its scheme": {`source: {registry: {url: registry.example.org/disk}}`, "docker://host/name"},
		"another scheme":           {`source: {registry: {url: "oci:/etc"}}`, "docker://host/name"},
		"a url without a host":     {`source: {registry: {url: "docker:///disk"}}`, "docker://host/name"},
		"a short url":              {`source: {registry: {url: "docker://disk"}}`, "docker://host/name"},
		"a password":               {`source: {registry: {url: "docker://me:secret@registry.example.org/disk"}}`, "secretRef"},
		"an unknown pull method":   {`source: {registry: {url: "docker://registry.example.org/disk", pullMethod: kubelet}}`, "pullMethod"},
		"an unknown content":       {`source: {registry: {url: "docker://registry.example.org/disk", content: tar}}`, "content"},
		"a platform with a slash":  {`source: {registry: {url: "docker://registry.example.org/disk", platform: {architecture: linux/arm64}}}`, "architecture"},

		"an image stream":              {`source: {registry: {imageStream: debian}}`, ""},
		"an image stream with a tag":   {`source: {registry: {imageStream: "debian:12.5"}}`, ""},
		"an image stream, by the node": {`source: {registry: {imageStream: debian, pullMethod: node}}`, ""},
		"an image stream elsewhere":    {`source: {registry: {imageStream: other/debian}}`, "name or name:tag"},
		"an image stream with no name": {`source: {registry: {imageStream: ":12"}}`, "name or name:tag"},
		"an image stream, two tags":    {`source: {registry: {imageStream: "a:b:c"}}`, "name or name:tag"},

		"by the node":                       {`source: {registry: {url: "docker://registry.example.org/disk", pullMethod: node, content: disk, secretRef: a, platform: {architecture: arm64}}}`, ""},
		"files by the node":                 {`source: {registry: {url: "docker://registry.example.org/disk", pullMethod: node, content: files}}`, "pullMethod pod"},
		"a root file system by the node":    {`source: {registry: {url: "docker://registry.example.org/disk", pullMethod: node, content: rootfs}}`, "pullMethod pod"},
		"certificates for the node":         {`source: {registry: {url: "docker://registry.example.org/disk", pullMethod: node, certConfigMap: a}}`, "certConfigMap"},
		"a checksum of a file":              {`source: {http: {url: "https://images.example.org/disk"}}, checksum: "` + digest + `"`, ""},
		"a checksum of a registry's image":  {`source: {registry: {url: "docker://registry.example.org/disk"}}, checksum: "` + digest + `"`, "checksum does not go with"},
		"a checksum of an imageRef's image": {`source: {imageRef: registry.example.org/disk}, checksum: "` + digest + `"`, "checksum does not go with"},
		"qcow2 of a root file system":       {`source: {registry: {url: "docker://registry.example.org/disk", content: rootfs}}, format: qcow2, size: 20Gi`, ""},
		"files":                             {`source: {registry: {url: "docker://registry.example.org/disk", content: files}}`, ""},
		"files as raw":                      {`source: {registry: {url: "docker://registry.example.org/disk", content: files}}, format: raw`, ""},
		"files as qcow2":                    {`source: {registry: {url: "docker://registry.example.org/disk", content: files}}, format: qcow2`, "format qcow2 does not go with content files"},
		"files with a size":                 {`source: {registry: {url: "docker://registry.example.org/disk", content: files}}, size: 20Gi`, "size does not go with content files"},
	} {
		t.Run(name, func(t *testing.T) {
			err := vmdi.Create(t.Context(), image(t, test.spec))
			if test.refused == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.refused)
		})
	}
}

func TestDefaults(t *testing.T) {
	vmdi := loadKind(t, "vmdiskimages")
	object := image(t, `source: {registry: {url: "docker://registry.example.org/disk"}}`)
	require.NoError(t, vmdi.Create(t.Context(), object))
	registry, _, err := unstructured.NestedMap(object.Object, "spec", "source", "registry")
	require.NoError(t, err)
	require.Equal(t, map[string]any{"url": "docker://registry.example.org/disk", "pullMethod": "pod", "content": "auto"}, registry)
	format, _, err := unstructured.NestedString(object.Object, "spec", "format")
	require.NoError(t, err)
	require.Equal(t, "raw", format)
}

func TestSourceColumn(t *testing.T) {
	vmdi := loadKind(t, "vmdiskimages")
	for want, spec := range map[string]string{
		"https://images.example.org/disk":      `source: {http: {url: "https://images.example.org/disk", secretRef: a, extraHeaders: ["url: x"]}}`,
		"docker://registry.example.org/disk:1": `source: {registry: {url: "docker://registry.example.org/disk:1", secretRef: a, platform: {architecture: arm64}}}`,
		"debian:12":                            `source: {registry: {imageStream: "debian:12"}}`,
		"registry.example.org/disk:1":          `source: {imageRef: "registry.example.org/disk:1"}`,
	} {
		object := image(t, spec)
		require.NoError(t, vmdi.Create(t.Context(), object))
		require.Equal(t, want, vmdi.Column(t, object, "Source"))
	}
}

// TestSeedManifest applies the project's first manifest as it was written.
func TestSeedManifest(t *testing.T) {
	vmdi := loadKind(t, "vmdiskimages")
	text, err := os.ReadFile(filepath.Join("testdata", "seed.yaml"))
	require.NoError(t, err)
	object := definition.Parse(t, string(text))
	require.NoError(t, vmdi.Create(t.Context(), object))
	require.Equal(t, "docker.io/library/ubuntu:22.04", vmdi.Column(t, object, "Source"))
}

// TestDocumentsApply applies every whole VMDiskImage of the page and of the samples.
func TestDocumentsApply(t *testing.T) {
	vmdi := loadKind(t, "vmdiskimages")
	root := filepath.Join("..", "..", "..", "..")
	samples, err := filepath.Glob(filepath.Join(root, "deploy", "samples", "*.yaml"))
	require.NoError(t, err)
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	applied := 0
	for _, path := range append(samples, filepath.Join(root, "docs", "vmdiskimage.md")) {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		texts := []string{string(content)}
		if filepath.Ext(path) == ".md" {
			texts = nil
			for _, match := range block.FindAllStringSubmatch(string(content), -1) {
				texts = append(texts, match[1])
			}
		}
		for _, text := range texts {
			for document := range strings.SplitSeq(text, "\n---\n") {
				if strings.Contains(document, "kind: VMDiskImage\n") && strings.Contains(document, "\nspec:\n") && !strings.Contains(document, "dataSourceRef") {
					require.NoError(t, vmdi.Create(t.Context(), definition.Parse(t, document)), "%s:\n%s", path, document)
					applied++
				}
			}
		}
	}
	require.GreaterOrEqual(t, applied, 12)
}

// TestImportsTakeWhatImagesTake: the copy of a spec in a VMDiskImport is taken where the original is.
func TestImportsTakeWhatImagesTake(t *testing.T) {
	vmdimp := loadKind(t, "vmdiskimports")
	for _, spec := range []string{
		`source: {http: {url: "https://images.example.org/disk"}}`,
		`source: {imageRef: "docker.io/library/ubuntu:22.04"}, format: qcow2, size: 20Gi`,
		`source: {registry: {imageStream: debian, pullMethod: node}}`,
	} {
		object := definition.Parse(t, "{apiVersion: virtualization.k8s.io/v1alpha1, kind: VMDiskImport, metadata: {name: a}, spec: {claimRef: {name: a, uid: b}, imageRef: {name: c, uid: d, generation: 1}, "+spec+"}}")
		require.NoError(t, vmdimp.Create(t.Context(), object))
		require.Equal(t, "c", vmdimp.Column(t, object, "Source"))
	}
}
