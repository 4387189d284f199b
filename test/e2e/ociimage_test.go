//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"runtime"
	"time"

	"github.com/stretchr/testify/require"
)

// Media types of images.
const (
	ociManifestType    = "application/vnd.oci.image.manifest.v1+json"
	ociIndexType       = "application/vnd.oci.image.index.v1+json"
	ociConfigType      = "application/vnd.oci.image.config.v1+json"
	ociEmptyType       = "application/vnd.oci.empty.v1+json"
	ociLayerType       = "application/vnd.oci.image.layer.v1.tar"
	ociForeignType     = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	dockerManifestType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfigType   = "application/vnd.docker.container.image.v1+json"
	dockerLayerType    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// ociImage is an image as it is pushed.
type ociImage struct {
	mediaType    string
	config       ociBlob
	layers       []ociBlob
	artifactType string
}

// ociBlob is a blob and how a manifest describes it.
type ociBlob struct {
	mediaType   string
	content     []byte
	annotations map[string]string
	urls        []string
	// diffID is the digest of the tar that is in it.
	diffID string
}

// manifest is the image's manifest.
func (i ociImage) manifest() map[string]any {
	layers := []any{}
	for _, layer := range i.layers {
		layers = append(layers, layer.descriptor())
	}
	manifest := map[string]any{"schemaVersion": 2, "mediaType": i.mediaType, "config": i.config.descriptor(), "layers": layers}
	if i.artifactType != "" {
		manifest["artifactType"] = i.artifactType
	}
	return manifest
}

func (b ociBlob) descriptor() map[string]any {
	descriptor := map[string]any{"mediaType": b.mediaType, "digest": digestOf(b.content), "size": len(b.content)}
	if b.annotations != nil {
		descriptor["annotations"] = b.annotations
	}
	if b.urls != nil {
		descriptor["urls"] = b.urls
	}
	return descriptor
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// tarEntry is one entry of a layer.
type tarEntry struct {
	name     string
	content  []byte
	kind     byte // tar.TypeReg when it is 0
	link     string
	mode     int64 // 0644 when it is 0
	uid, gid int
	xattrs   map[string]string
}

// tarOf is a tar of entries.
func (f *fixture) tarOf(entries ...tarEntry) []byte {
	f.Helper()
	var text bytes.Buffer
	out := tar.NewWriter(&text)
	for _, e := range entries {
		header := &tar.Header{
			Typeflag: e.kind, Name: e.name, Linkname: e.link, Mode: e.mode, Uid: e.uid, Gid: e.gid, Size: int64(len(e.content)),
			ModTime: time.Unix(1_700_000_000, 0), PAXRecords: map[string]string{}, Format: tar.FormatPAX,
		}
		if e.kind == 0 {
			header.Typeflag = tar.TypeReg
		}
		if e.mode == 0 {
			header.Mode = 0o644
		}
		for name, value := range e.xattrs {
			header.PAXRecords["SCHILY.xattr."+name] = value
		}
		require.NoError(f, out.WriteHeader(header))
		_, err := out.Write(e.content)
		require.NoError(f, err)
	}
	require.NoError(f, out.Close())
	return text.Bytes()
}

// packing is how a layer is packed.
type packing string

// The packings of layers.
const (
	plainTar    packing = ""
	gzipTar     packing = "+gzip"
	zstdTar     packing = "+zstd"
	zstdChunked packing = "+zstd chunked"
)

// layer is a layer of an OCI image.
func (f *fixture) layer(how packing, entries ...tarEntry) ociBlob {
	f.Helper()
	content := f.tarOf(entries...)
	layer := ociBlob{mediaType: ociLayerType + string(how), content: content, diffID: digestOf(content)}
	switch how {
	case gzipTar:
		layer.content = f.pack("gzip", content)
	case zstdTar:
		layer.content = f.pack("zstd", content)
	case zstdChunked:
		// zstd:chunked is zstd in frames, which whoever knows nothing of chunks reads one after the other,
		// and a table of contents in a frame that is skipped.
		half := len(content) / 2
		table := []byte("a table of contents")
		skipped := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0x184D2A50), uint32(len(table)))
		layer.mediaType = ociLayerType + string(zstdTar)
		layer.content = bytes.Join([][]byte{f.pack("zstd", content[:half]), f.pack("zstd", content[half:]), skipped, table}, nil)
		layer.annotations = map[string]string{"io.github.containers.zstd-chunked.manifest-position": fmt.Sprintf("%d:%d:%d:1", len(layer.content)-len(table), len(table), len(table))}
	}
	return layer
}

// container is an OCI container image of layers.
func (f *fixture) container(layers ...ociBlob) ociImage {
	return containerOf(runtime.GOARCH, layers...)
}

func containerOf(architecture string, layers ...ociBlob) ociImage {
	diffs := ""
	for i, layer := range layers {
		if i > 0 {
			diffs += ","
		}
		diffs += `"` + layer.diffID + `"`
	}
	config := fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}`, architecture, diffs)
	return ociImage{mediaType: ociManifestType, config: ociBlob{mediaType: ociConfigType, content: []byte(config)}, layers: layers}
}

// docker is the same image as Docker describes it. Its layers must be packed by gzip.
func (i ociImage) docker() ociImage {
	i.mediaType, i.config.mediaType = dockerManifestType, dockerConfigType
	layers := append([]ociBlob(nil), i.layers...)
	for n := range layers {
		layers[n].mediaType = dockerLayerType
	}
	i.layers = layers
	return i
}

// diskEntries is what KubeVirt's container disks hold.
func diskEntries(name string, content []byte) []tarEntry {
	return []tarEntry{
		{name: "disk/", kind: '5', mode: 0o755},
		{name: "disk/" + name, content: content, mode: 0o440, uid: qemu, gid: qemu},
	}
}

// containerDisk is a container disk of one layer.
func (f *fixture) containerDisk(how packing, name string, content []byte) ociImage {
	f.Helper()
	return f.container(f.layer(how, diskEntries(name, content)...))
}

// artifact is an OCI artifact whose layer is a disk, as oras pushes it.
func artifact(mediaType, title string, content []byte) ociImage {
	layer := ociBlob{mediaType: mediaType, content: content}
	if title != "" {
		layer.annotations = map[string]string{"org.opencontainers.image.title": title}
	}
	return ociImage{
		mediaType: ociManifestType, artifactType: "application/vnd.example.disk", config: ociBlob{mediaType: ociEmptyType, content: []byte("{}")}, layers: []ociBlob{layer},
	}
}
