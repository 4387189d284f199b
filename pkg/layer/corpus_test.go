package layer_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/layer"
)

// The hostile and odd layers that images are known to have, each with how it must end.
func TestFindCorpus(t *testing.T) {
	image, small := disk(300_000), disk(512)
	good := pack(t, dir("disk"), file("disk/disk.qcow2", image))
	goodGZ := gz(t, good)
	flipped := func(data []byte, at int) []byte {
		out := bytes.Clone(data)
		out[at] ^= 1
		return out
	}
	var many []item
	for i := range 20000 {
		many = append(many, file(fmt.Sprintf("d/%05d", i), nil))
	}
	badSum := bytes.Clone(good)
	copy(badSum[512+148:], "0000000\x00")

	for name, c := range map[string]struct {
		layer layer.Layer
		// disk and name are those of a layer that is accepted, else reason is why not.
		name   string
		disk   []byte
		reason string
	}{
		"layer-good.tar":               {layer: layerOf(good), name: "disk/disk.qcow2", disk: image},
		"layer-good.tar.gz":            {layer: layerOf(goodGZ), name: "disk/disk.qcow2", disk: image},
		"layer-good.tar.zst":           {layer: layerOf(zst(t, good)), name: "disk/disk.qcow2", disk: image},
		"layer-good-dotslash.tar":      {layer: layerOf(pack(t, dir("./disk"), file("./disk/disk.img", image))), name: "disk/disk.img", disk: image},
		"layer-many-entries.tar.gz":    {layer: layerOf(gz(t, pack(t, append(many, file("disk/disk.img", small))...))), name: "disk/disk.img", disk: small},
		"bad-layer-absolute.tar":       {layer: layerOf(pack(t, file("/disk/disk.img", image), file("/etc/cron.d/x", []byte("x")))), name: "disk/disk.img", disk: image},
		"layer-two-images.tar":         {layer: layerOf(pack(t, dir("disk"), file("disk/a.qcow2", image), file("disk/b.img", small))), reason: refusal.SeveralDisks},
		"layer-no-disk-dir.tar":        {layer: layerOf(pack(t, file("etc/passwd", []byte("root:x\n")))), reason: refusal.NoDisk},
		"layer-empty.tar":              {layer: layerOf(pack(t)), reason: refusal.NoDisk},
		"layer-whiteout.tar":           {layer: layerOf(pack(t, dir("disk"), file("disk/.wh.disk.qcow2", nil))), reason: refusal.NoDisk},
		"bad-layer-traversal.tar":      {layer: layerOf(pack(t, file("../../../../tmp/pwned", []byte("x")), file("disk/../../disk.img", image))), reason: refusal.UnsafeImage},
		"bad-layer-symlink.tar":        {layer: layerOf(pack(t, dir("disk"), special(tar.TypeSymlink, "disk/disk.img", "/etc/passwd"))), reason: refusal.UnsafeImage},
		"bad-layer-hardlink.tar":       {layer: layerOf(pack(t, dir("disk"), special(tar.TypeLink, "disk/disk.img", "/etc/passwd"))), reason: refusal.UnsafeImage},
		"bad-layer-symlink-dir.tar":    {layer: layerOf(pack(t, special(tar.TypeSymlink, "disk", "/etc"), file("disk/disk.img", image))), reason: refusal.UnsafeImage},
		"bad-layer-chardev.tar":        {layer: layerOf(pack(t, dir("disk"), special(tar.TypeChar, "disk/disk.img", ""))), reason: refusal.UnsafeImage},
		"bad-layer-fifo.tar":           {layer: layerOf(pack(t, dir("disk"), special(tar.TypeFifo, "disk/disk.img", ""))), reason: refusal.UnsafeImage},
		"bad-layer-img-is-dir.tar":     {layer: layerOf(pack(t, dir("disk"), dir("disk/disk.img"))), reason: refusal.UnexpectedContent},
		"bad-layer-truncated.tar":      {layer: layerOf(good[:len(good)/3]), reason: refusal.TruncatedImage},
		"bad-layer-truncated.tar.gz":   {layer: layerOf(goodGZ[:len(goodGZ)/2]), reason: refusal.TruncatedImage},
		"bad-layer-longname.tar":       {layer: layerOf(pack(t, file("disk/"+strings.Repeat("a", 5000), small))), reason: refusal.CorruptImage},
		"bad-layer-hdr-cksum.tar":      {layer: layerOf(badSum), reason: refusal.CorruptImage},
		"bad-oci-blob-digest.tar":      {layer: lying(goodGZ, flipped(goodGZ, len(goodGZ)-20)), reason: refusal.DigestMismatch},
		"bad-oci-blob-short.tar":       {layer: lying(goodGZ, goodGZ[:len(goodGZ)-1000]), reason: refusal.TruncatedImage},
		"bad-oci-size-lies-small.tar":  {layer: sized(layerOf(goodGZ), 100), reason: refusal.DigestMismatch},
		"bad-oci-size-lies-big.tar":    {layer: sized(layerOf(goodGZ), int64(len(goodGZ))*1000), reason: refusal.TruncatedImage},
		"bad-oci-digest-md5.tar":       {layer: digested(layerOf(goodGZ), "md5:d41d8cd98f00b204e9800998ecf8427e"), reason: refusal.UnsupportedFormat},
		"bad-oci-digest-traversal.tar": {layer: digested(layerOf(goodGZ), "sha256:../../../../etc/passwd"), reason: refusal.CorruptImage},
		"bad-oci-wrong-mediatype.tar":  {layer: typed(layerOf(goodGZ), "application/vnd.oci.image.layer.v1.tar+zstd"), name: "disk/disk.qcow2", disk: image},
	} {
		t.Run(name, func(t *testing.T) {
			name, data, err := find(t, c.layer)
			if c.reason != "" {
				requireReason(t, err, c.reason)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.name, name)
			require.True(t, bytes.Equal(c.disk, data))
		})
	}
}

func sized(l layer.Layer, size int64) layer.Layer {
	l.Size = size
	return l
}

func digested(l layer.Layer, digest string) layer.Layer {
	l.Digest = digest
	return l
}

func typed(l layer.Layer, mediaType string) layer.Layer {
	l.MediaType = mediaType
	return l
}
