package registry

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/image/v5/manifest"
	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
)

// FuzzReference: what is taken names a host and one image, or a path.
func FuzzReference(f *testing.F) {
	for _, ref := range []string{
		"//host.example/a/b:tag", "//localhost/a@sha256:" + strings.Repeat("0", 64), "//[::1]:5000/a", "//host:1/a:b@sha512:" + strings.Repeat("a", 128),
		"dir:tag", "dir@0", "a.tar:@1", "dir:tag@sha256:" + strings.Repeat("0", 64), "//a.b/../c", "//a@b.c/d",
	} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		if named, err := parseRemote(ref); err == nil {
			e, err := newEndpoint(named, named, false, Options{}.withDefaults())
			if err == nil {
				require.NotContains(t, e.host, "/")
				require.NotContains(t, e.host, "@")
				require.NotContains(t, "/"+e.repository+"/", "/../")
			}
		}
		if c, err := parseCorner("oci", ref); err == nil {
			require.NotEmpty(t, c.path)
			if c.digest != "" {
				require.NoError(t, c.digest.Validate())
			}
		}
	})
}

// FuzzManifest: whatever is served, the layers that come out have real digests and sizes, and an
// image that was chosen out of an index has the digest that the index says.
func FuzzManifest(f *testing.F) {
	layer := `{"mediaType":"x","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1}`
	one := `{"schemaVersion":2,"config":` + layer + `,"layers":[` + layer + `]}`
	f.Add(one, imgspec.MediaTypeImageManifest, "{}")
	f.Add(one, manifest.DockerV2Schema2MediaType, "{}")
	entry := `{"digest":"` + digest.FromString(one).String() + `","size":1,"platform":{"os":"linux","architecture":"amd64"}}`
	f.Add(`{"schemaVersion":2,"manifests":[`+entry+`]}`, imgspec.MediaTypeImageIndex, one)
	f.Add(`{"schemaVersion":2,"manifests":[`+entry+`]}`, manifest.DockerV2ListMediaType, one)
	f.Add(`{"schemaVersion":1}`, "", "")
	f.Fuzz(func(t *testing.T, top, mediaType, below string) {
		d, err := newDocument([]byte(top), mediaType, "")
		if err != nil {
			requireReasoned(t, err)
			return
		}
		c, err := choose(t.Context(), "image", d, platform{os: "linux", architecture: "amd64"}, func(context.Context, digest.Digest) ([]byte, string, error) {
			return []byte(below), mediaType, nil
		})
		if err != nil {
			requireReasoned(t, err)
			return
		}
		require.Equal(t, c.manifest.digest, c.manifest.digest.Algorithm().FromBytes(c.manifest.raw))
		for _, l := range c.layers {
			require.NoError(t, digest.Digest(l.Digest).Validate())
			require.GreaterOrEqual(t, l.Size, int64(0))
		}
	})
}

func requireReasoned(t *testing.T, err error) {
	t.Helper()
	require.NotEmpty(t, reasonOf(err), err)
	require.Less(t, len(err.Error()), 2000, "an error does not repeat the manifest")
}

// FuzzChallenge: parameters come out as they were quoted.
func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://a.example/token",service="a",scope="repository:x:pull"`, "v")
	f.Add(`Basic realm=x`, `a"b\c`)
	f.Add(`bearer , =,a="`, "")
	f.Fuzz(func(t *testing.T, header, value string) {
		c := parseChallenge(header)
		require.Equal(t, strings.ToLower(c.scheme), c.scheme)
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
		require.Equal(t, value, parseChallenge("Bearer a=b, Realm=" + quoted + ", c=d").parameters["realm"])
	})
}

// FuzzArchive: a .tar leads to no byte outside of itself.
func FuzzArchive(f *testing.F) {
	f.Add([]byte("index.json"))
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "layout.tar")
		require.NoError(t, os.WriteFile(path, content, 0o600))
		opened, err := openArchive(t.Context(), path)
		if err != nil {
			requireReasoned(t, err)
			return
		}
		for name, s := range opened.(*archive).spans {
			require.NotContains(t, name, "..")
			require.LessOrEqual(t, s.off+s.size, int64(len(content)))
			require.GreaterOrEqual(t, s.size, int64(0))
		}
		require.NoError(t, opened.close())
	})
}

// FuzzEntries: the configuration of docker never comes back in an error.
func FuzzEntries(f *testing.F) {
	f.Add([]byte(`{"auths":{"a.example":{"auth":"YTpi"}}}`))
	f.Add([]byte(`{"auths":{"a.example":{"auth":"canary"}}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		entries, err := parseEntries(content)
		if err != nil {
			require.Nil(t, entries)
			require.Less(t, len(err.Error()), 120)
			return
		}
		require.True(t, json.Valid(content))
	})
}
