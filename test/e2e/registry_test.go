//go:build e2e

package e2e

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// RegistryImage makes a VMDiskImage of an image in a registry, whose CA is that of our own registry. edit changes
// its spec first.
func (f *fixture) RegistryImage(name, url string, edit ...func(*v1alpha1.VMDiskImageSpec)) {
	f.Helper()
	f.ConfigMap("registry-ca", map[string]string{"ca.crt": f.WebCA()})
	vmdi := &v1alpha1.VMDiskImage{ObjectMeta: f.meta(name)}
	vmdi.Spec.Source.Registry = &v1alpha1.RegistrySource{URL: url, CertConfigMap: "registry-ca"}
	for _, change := range edit {
		change(&vmdi.Spec)
	}
	require.NoError(f, f.Create(f.ctx, vmdi))
}

// contentDisk wants a disk, and nothing made of an image's files.
func contentDisk(spec *v1alpha1.VMDiskImageSpec) {
	spec.Source.Registry.Content = v1alpha1.ImageContentDisk
}

// withSecret shows the credentials of the Secret login to the registry.
func withSecret(spec *v1alpha1.VMDiskImageSpec) { spec.Source.Registry.SecretRef = "login" }

// raw and qcow2 are the content of the test's disk.
func (f *fixture) raw() []byte   { return f.convert(f.Disk(diskSize), "raw") }
func (f *fixture) qcow2() []byte { return f.convert(f.Disk(diskSize), "qcow2") }

// imageForms are the forms that a disk in a registry can have.
func imageForms() map[string]func(*fixture) ociImage {
	small := []byte("not a disk")
	return map[string]func(*fixture) ociImage{
		"qcow2 in tar":          func(f *fixture) ociImage { return f.containerDisk(plainTar, "disk.qcow2", f.qcow2()) },
		"qcow2 in tar+gzip":     func(f *fixture) ociImage { return f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()) },
		"qcow2 in tar+zstd":     func(f *fixture) ociImage { return f.containerDisk(zstdTar, "disk.qcow2", f.qcow2()) },
		"qcow2 in zstd:chunked": func(f *fixture) ociImage { return f.containerDisk(zstdChunked, "disk.qcow2", f.qcow2()) },
		"raw in tar":            func(f *fixture) ociImage { return f.containerDisk(plainTar, "disk.img", f.raw()) },
		"raw in tar+zstd":       func(f *fixture) ociImage { return f.containerDisk(zstdTar, "disk.img", f.raw()) },
		"qcow2.gz in tar": func(f *fixture) ociImage {
			return f.containerDisk(plainTar, "disk.qcow2.gz", f.pack("gzip", f.qcow2()))
		},
		"Docker's schema 2": func(f *fixture) ociImage {
			return f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()).docker()
		},
		"upper layer replaces the disk": func(f *fixture) ociImage {
			return f.container(f.layer(gzipTar, diskEntries("disk.img", small)...), f.layer(gzipTar, diskEntries("disk.img", f.qcow2())...))
		},
		"upper layer removes another disk": func(f *fixture) ociImage {
			upper := append([]tarEntry{{name: "disk/.wh.old.img"}}, diskEntries("disk.qcow2", f.qcow2())...)
			return f.container(f.layer(gzipTar, diskEntries("old.img", small)...), f.layer(gzipTar, upper...))
		},
		"upper layer hides all below": func(f *fixture) ociImage {
			upper := append([]tarEntry{{name: "disk/.wh..wh..opq"}}, diskEntries("disk.qcow2", f.qcow2())...)
			return f.container(f.layer(gzipTar, diskEntries("old.img", small)...), f.layer(zstdTar, upper...))
		},
		"disk in the lower layer": func(f *fixture) ociImage {
			return f.container(f.layer(gzipTar, diskEntries("disk.qcow2", f.qcow2())...), f.layer(gzipTar, tarEntry{name: "etc/note", content: small}))
		},
		"artifact by media type": func(f *fixture) ociImage {
			return artifact("application/x-qemu-disk", "", f.qcow2())
		},
		"artifact by title": func(f *fixture) ociImage {
			return artifact("application/octet-stream", "debian.img", f.raw())
		},
	}
}

// TestFillsFromARegistry fills claims of both modes from every form, by tag and by digest, over TLS.
func TestFillsFromARegistry(t *testing.T) {
	t.Parallel()
	modes := map[string]func(*corev1.PersistentVolumeClaim){
		"Filesystem": func(*corev1.PersistentVolumeClaim) {},
		"Block":      block,
	}
	for form, make := range imageForms() {
		for mode, edit := range modes {
			t.Run(form+", "+mode, func(t *testing.T) {
				t.Parallel()
				f := start(t)
				img := make(f)
				p := f.Push("disk", img)
				url := p.URL(tlsPort)
				if mode == "Block" {
					url = p.ByDigest(tlsPort)
				}
				f.RegistryImage("image", url)
				c := f.Claim("disk", "image", edit)
				imp := f.RequireBound(c)
				require.Equal(t, p.digest, imp.Status.Result.Digest)
				require.Equal(t, diskSize, imp.Status.Result.VirtualSize)
				f.RequireDisk(c, f.Disk(diskSize))
				f.RequireNoScratch(c)
				f.RequireNothingLeft(c)
				length := 0
				for _, blob := range append(img.layers, img.config) {
					length += len(blob.content)
				}
				require.LessOrEqual(t, blobBytes(p.Requests()), int64(length)+mib, "a blob is read twice")
			})
		}
	}
}

// TestKeepsQcow2OfARegistry keeps a container disk as it is.
func TestKeepsQcow2OfARegistry(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.RegistryImage("image", f.Push("disk", f.containerDisk(gzipTar, "disk.img", f.raw())).URL(tlsPort), keepQcow2)
	c := f.Claim("disk", "image")
	f.RequireBound(c)
	f.RequireQcow2(c, f.Disk(diskSize), diskSize)
	f.RequireNothingLeft(c)
}

// TestChoosesThePlatform imports from an index.
func TestChoosesThePlatform(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		platform *v1alpha1.ImagePlatform
		want     string
	}{
		"the node's": {nil, runtime.GOARCH},
		"another":    {&v1alpha1.ImagePlatform{Architecture: "arm64"}, "arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.NeedsTestCluster("a node whose platform is this machine's")
			wanted, other := f.Disk(diskSize), f.Disk(diskSize)
			other.Seed++
			images := map[string]ociImage{}
			for _, architecture := range []string{"amd64", "arm64", "s390x"} {
				d := other
				if architecture == test.want {
					d = wanted
				}
				images[architecture] = containerOf(architecture, f.layer(gzipTar, diskEntries("disk.qcow2", f.convert(d, "qcow2"))...))
			}
			p := f.PushIndex("disk", images)
			f.RegistryImage("image", p.ByDigest(tlsPort), func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.Registry.Platform = test.platform })
			c := f.Claim("disk", "image", block)
			f.RequireBound(c)
			f.RequireDisk(c, wanted)
			f.RequireNothingLeft(c)
		})
	}
}

// TestRefusesAnotherPlatform says what is on offer.
func TestRefusesAnotherPlatform(t *testing.T) {
	t.Parallel()
	f := start(t)
	img := f.containerDisk(gzipTar, "disk.qcow2", f.qcow2())
	p := f.PushIndex("disk", map[string]ociImage{"ppc64le": img, "riscv64": img})
	f.RegistryImage("image", p.URL(tlsPort), func(spec *v1alpha1.VMDiskImageSpec) {
		spec.Source.Registry.Platform = &v1alpha1.ImagePlatform{Architecture: "arm64"}
	})
	imp := f.RequireFailed(f.Claim("disk", "image", block), "PlatformNotFound")
	for _, text := range []string{"arm64", "ppc64le", "riscv64"} {
		require.Contains(t, ready(imp).Message, text)
	}
}

// TestShowsItsCredentialsToRegistries pulls from registries that let nobody in without them.
func TestShowsItsCredentialsToRegistries(t *testing.T) {
	t.Parallel()
	type access struct {
		port int
		// prepare makes what the import needs and returns how it names it.
		prepare func(f *fixture, host, name, password string) func(*v1alpha1.VMDiskImageSpec)
	}
	dockerConfig := func(port string) func(*fixture, string, string, string) func(*v1alpha1.VMDiskImageSpec) {
		return func(f *fixture, host, name, password string) func(*v1alpha1.VMDiskImageSpec) {
			f.PullSecret("login", host+port, name, password)
			return withSecret
		}
	}
	plainSecret := func(user, key string) func(*fixture, string, string, string) func(*v1alpha1.VMDiskImageSpec) {
		return func(f *fixture, _, name, password string) func(*v1alpha1.VMDiskImageSpec) {
			f.Secret("login", map[string]string{user: name, key: password})
			return withSecret
		}
	}
	for name, test := range map[string]access{
		"basic, dockerconfigjson":      {basicPort, dockerConfig(":5003")},
		"basic, username and password": {basicPort, plainSecret("username", "password")},
		"basic, KubeVirt's spelling":   {basicPort, plainSecret("accessKeyId", "secretKey")},
		"token, dockerconfigjson":      {tokenPort, dockerConfig(":5004")},
		"token, username and password": {tokenPort, plainSecret("username", "password")},
		"basic, a store for the blobs": {redirectPort, dockerConfig(":5005")},
		"token, default's pull secrets": {tokenPort, func(f *fixture, host, name, password string) func(*v1alpha1.VMDiskImageSpec) {
			f.PullSecret("other", "registry.example.org", name, "not for this one")
			f.PullSecret("pull", host+":5004", name, password)
			f.PullSecretsOfDefault("other", "missing", "pull")
			return func(*v1alpha1.VMDiskImageSpec) {}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			img := f.containerDisk(gzipTar, "disk.qcow2", f.qcow2())
			p := f.Push("disk", img)
			user, password := f.RegistryUser()
			f.RegistryImage("image", p.URL(test.port), test.prepare(f, p.host, user, password))
			c := f.Claim("disk", "image", block)
			f.RequireBound(c)
			f.RequireDisk(c, f.Disk(diskSize))
			f.RequireNoScratch(c)
			f.RequireNothingLeft(c)
			if test.port != redirectPort {
				return
			}
			stored := f.registryRequests("store/" + strings.TrimPrefix(digestOf(img.layers[0].content), "sha256:"))
			require.NotEmpty(t, stored, "the blob does not come from the store")
			for _, request := range stored {
				require.Empty(t, request.Header.Get("Authorization"), "credentials went to another host")
			}
		})
	}
}

// TestNeedsNoCredentials gets a token without any, as public images are pulled.
func TestNeedsNoCredentials(t *testing.T) {
	t.Parallel()
	f := start(t)
	p := f.PushTo("library/"+f.namespace, "1", f.containerDisk(zstdTar, "disk.qcow2", f.qcow2()))
	f.RegistryImage("image", p.URL(tokenPort))
	c := f.Claim("disk", "image", block)
	f.RequireBound(c)
	f.RequireDisk(c, f.Disk(diskSize))
	f.RequireNothingLeft(c)
}

// TestRefusesFromARegistry imports what must not become a disk. Each import ends with its reason after one attempt, the
// claim unbound and nothing left.
func TestRefusesFromARegistry(t *testing.T) {
	t.Parallel()
	good := func(f *fixture) *pushed { return f.Push("disk", f.containerDisk(plainTar, "disk.qcow2", f.qcow2())) }
	of := func(port int, make func(*fixture) ociImage) func(*fixture) string {
		return func(f *fixture) string { return f.Push("disk", make(f)).URL(port) }
	}
	entries := func(all ...tarEntry) func(*fixture) string {
		return of(tlsPort, func(f *fixture) ociImage { return f.container(f.layer(gzipTar, all...)) })
	}
	nothing := func(*v1alpha1.VMDiskImageSpec) {}
	for name, test := range map[string]struct {
		reason string
		url    func(*fixture) string
		edit   func(*v1alpha1.VMDiskImageSpec)
	}{
		"401 of basic authentication": {"AuthenticationFailed", func(f *fixture) string { return good(f).URL(basicPort) }, nothing},
		"401 of a token":              {"AuthenticationFailed", func(f *fixture) string { return good(f).URL(tokenPort) }, nothing},
		"wrong password": {"AuthenticationFailed", func(f *fixture) string {
			user, _ := f.RegistryUser()
			f.Secret("login", map[string]string{"username": user, "password": f.Canary()})
			return good(f).URL(tokenPort)
		}, withSecret},
		"403": {"AuthenticationFailed", func(f *fixture) string {
			p := good(f)
			p.Faults(registryFault{On: onManifest, Status: 403})
			return p.URL(tlsPort)
		}, nothing},
		"403 of a blob": {"AuthenticationFailed", func(f *fixture) string {
			p := good(f)
			p.Faults(registryFault{On: onBlob, Status: 403})
			return p.URL(tlsPort)
		}, nothing},
		"unknown repository": {"NotFound", func(f *fixture) string {
			p := good(f)
			p.repository += "-another"
			return p.URL(tlsPort)
		}, nothing},
		"unknown tag": {"NotFound", func(f *fixture) string {
			p := good(f)
			p.tag = "2"
			return p.URL(tlsPort)
		}, nothing},
		"unknown digest": {"NotFound", func(f *fixture) string {
			p := good(f)
			p.digest = digestOf(nil)
			return p.ByDigest(tlsPort)
		}, nothing},
		"unknown blob": {"NotFound", func(f *fixture) string {
			p := good(f)
			p.Faults(registryFault{On: onBlob, Status: 404})
			return p.URL(tlsPort)
		}, nothing},
		"wrong CA": {"CertificateError", func(f *fixture) string {
			other, err := newCertificate("*." + f.webNamespace() + ".svc")
			require.NoError(f, err)
			f.ConfigMap("other-ca", map[string]string{"ca.crt": string(other.ca)})
			return good(f).URL(tlsPort)
		}, func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.Registry.CertConfigMap = "other-ca" }},
		"another byte in a blob": {"DigestMismatch", func(f *fixture) string {
			p := f.Push("disk", f.containerDisk(plainTar, "disk.img", f.raw()))
			p.Faults(registryFault{On: onBlob, FlipAt: 20*mib + 7})
			return p.URL(tlsPort)
		}, nothing},
		"another byte in an artifact": {"DigestMismatch", func(f *fixture) string {
			p := f.Push("disk", artifact("application/octet-stream", "disk.img", f.raw()))
			p.Faults(registryFault{On: onBlob, FlipAt: 20*mib + 7})
			return p.URL(tlsPort)
		}, nothing},
		"another manifest than its digest": {"DigestMismatch", func(f *fixture) string {
			p := good(f)
			p.Faults(registryFault{On: onManifest, PadTo: 4096})
			return p.ByDigest(tlsPort)
		}, nothing},
		"a manifest of 8 MiB": {"UnsafeImage", func(f *fixture) string {
			p := good(f)
			p.Faults(registryFault{On: onManifest, PadTo: 8 << 20})
			return p.URL(tlsPort)
		}, nothing},
		"two disks": {"SeveralDisks", of(tlsPort, func(f *fixture) ociImage {
			return f.container(f.layer(gzipTar, append(diskEntries("a.qcow2", f.qcow2()), diskEntries("b.qcow2", f.qcow2())[1])...))
		}), nothing},
		"two disks in two layers": {"SeveralDisks", of(tlsPort, func(f *fixture) ociImage {
			return f.container(f.layer(gzipTar, diskEntries("a.qcow2", f.qcow2())...), f.layer(zstdTar, diskEntries("b.qcow2", f.qcow2())...))
		}), nothing},
		"no disk":          {"NoDisk", entries(tarEntry{name: "etc/passwd", content: []byte("root")}), contentDisk},
		"a disk outside":   {"UnsafeImage", entries(append(diskEntries("disk.img", []byte("no")), tarEntry{name: "../../etc/passwd", content: []byte("root")})...), nothing},
		"a link as disk":   {"UnsafeImage", entries(tarEntry{name: "disk/", kind: '5', mode: 0o755}, tarEntry{name: "disk/disk.img", kind: '2', link: "/etc/passwd"}), nothing},
		"a device as disk": {"UnsafeImage", entries(tarEntry{name: "disk/", kind: '5', mode: 0o755}, tarEntry{name: "disk/disk.img", kind: '4'}), nothing},
		"a layer that ends early": {"TruncatedImage", of(tlsPort, func(f *fixture) ociImage {
			whole := f.layer(plainTar, diskEntries("disk.img", f.raw())...)
			whole.content = whole.content[:len(whole.content)/2]
			return f.container(whole)
		}), nothing},
		"a packed layer that ends early": {"TruncatedImage", of(tlsPort, func(f *fixture) ociImage {
			whole := f.layer(gzipTar, diskEntries("disk.img", f.raw())...)
			whole.content = whole.content[:len(whole.content)/2]
			return f.container(whole)
		}), nothing},
		"a layer that is elsewhere": {"UnsupportedFormat", of(tlsPort, func(f *fixture) ociImage {
			layer := f.layer(gzipTar, diskEntries("disk.img", []byte("a disk"))...)
			layer.mediaType, layer.urls = ociForeignType, []string{"http://" + f.host + "/files/layer"}
			return f.container(layer)
		}), nothing},
		"a disk with a backing file": {"UnsafeImage", of(tlsPort, func(f *fixture) ociImage {
			return f.containerDisk(gzipTar, "disk.qcow2", f.backedContent())
		}), nothing},
		"a disk larger than the claim": {"TooLarge", of(tlsPort, func(f *fixture) ociImage {
			return f.containerDisk(gzipTar, "disk.qcow2", f.convert(f.Disk(claimSize+mib), "qcow2"))
		}), nothing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.RegistryImage("image", test.url(f), test.edit)
			f.RequireFailed(f.Claim("disk", "image", block), test.reason)
		})
	}
}

// TestStartsAnewWithItsPullSecret fails without credentials, and starts anew once the service account has them.
func TestStartsAnewWithItsPullSecret(t *testing.T) {
	t.Parallel()
	f := start(t)
	p := f.Push("disk", f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
	user, password := f.RegistryUser()
	f.RegistryImage("image", p.URL(basicPort))
	c := f.Claim("disk", "image", block)
	failed := f.RequireFailed(c, "AuthenticationFailed")
	f.PullSecret("pull", p.host+":5003", user, password)
	f.PullSecretsOfDefault("pull")
	f.WaitAnew(c, failed)
	f.RequireBound(c)
	f.RequireDisk(c, f.Disk(diskSize))
	f.RequireNothingLeft(c)
}
