package registry

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
)

func TestDisk(t *testing.T) {
	qcow2 := Layer{Digest: "sha256:1", MediaType: "application/x-qcow2"}
	titled := Layer{Digest: "sha256:2", MediaType: "application/octet-stream", Title: "Debian-12.RAW.xz"}
	kept := Layer{Digest: "sha256:3", MediaType: "application/vnd.example.vm.disk.v1+zstd"}
	readme := Layer{Digest: "sha256:4", MediaType: "text/markdown", Title: "README.md"}
	plain := Layer{Digest: "sha256:5", MediaType: "application/octet-stream"}
	diskette := Layer{Digest: "sha256:6", MediaType: "application/diskette", Title: "raw"}
	for _, c := range []struct {
		name   string
		layers []Layer
		want   string
		reason string
	}{
		{"media type", []Layer{readme, qcow2}, qcow2.Digest, ""},
		{"title", []Layer{titled, readme}, titled.Digest, ""},
		{"word in the media type", []Layer{kept, plain}, kept.Digest, ""},
		{"only layer", []Layer{plain}, plain.Digest, ""},
		{"only layer, whatever it is called", []Layer{readme}, readme.Digest, ""},
		{"none", nil, "", refusal.NoDisk},
		{"two disks", []Layer{qcow2, readme, titled}, "", refusal.SeveralDisks},
		{"two that nobody knows", []Layer{plain, readme}, "", refusal.SeveralDisks},
		{"parts of words are no words", []Layer{diskette, plain}, "", refusal.SeveralDisks},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := &Image{name: "image", chosen: chosen{layers: c.layers}}
			got, err := i.Disk()
			if c.reason == "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got.Digest)
				return
			}
			var refused *refusal.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.reason, refused.Reason())
		})
	}
}
