//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

// NodeImage makes a VMDiskImage that the node pulls.
func (f *fixture) NodeImage(name, url string, edit ...func(*v1alpha1.VMDiskImageSpec)) {
	f.Helper()
	vmdi := &v1alpha1.VMDiskImage{ObjectMeta: f.meta(name)}
	vmdi.Spec.Source.Registry = &v1alpha1.RegistrySource{URL: url, PullMethod: v1alpha1.PullMethodNode}
	for _, change := range edit {
		change(&vmdi.Spec)
	}
	require.NoError(f, f.Create(f.ctx, vmdi))
}

// PushForNodes puts an image into the registry that the nodes pull from without TLS, and returns how they name it.
func (f *fixture) PushForNodes(name string, img ociImage) (byTag, byDigest string) {
	f.Helper()
	f.NeedsTestCluster("a registry that its nodes pull from without TLS")
	host, _, _ := strings.Cut(f.images, "/")
	to := endpoint{client: http.DefaultClient, base: "http://" + host}
	repository := f.namespace + "/" + name
	digest, err := to.image(f.ctx, repository, "1", img)
	require.NoError(f, err)
	return fmt.Sprintf("docker://%s/%s:1", host, repository), fmt.Sprintf("docker://%s/%s@%s", host, repository, digest)
}

// TestTheNodePulls fills claims of both modes from images that the node pulls and mounts.
func TestTheNodePulls(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*fixture) ociImage{
		"qcow2 in tar+gzip": func(f *fixture) ociImage { return f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()) },
		"raw in tar+zstd":   func(f *fixture) ociImage { return f.containerDisk(zstdTar, "disk.img", f.raw()) },
		"two layers": func(f *fixture) ociImage {
			upper := append([]tarEntry{{name: "disk/.wh.old.img"}}, diskEntries("disk.qcow2", f.qcow2())...)
			return f.container(f.layer(gzipTar, diskEntries("old.img", []byte("not a disk"))...), f.layer(gzipTar, upper...))
		},
	} {
		for mode, edit := range map[string]func(*corev1.PersistentVolumeClaim){
			"Filesystem": func(*corev1.PersistentVolumeClaim) {}, "Block": block,
		} {
			t.Run(name+", "+mode, func(t *testing.T) {
				t.Parallel()
				f := start(t)
				url, byDigest := f.PushForNodes("disk", make(f))
				if mode == "Block" {
					url = byDigest
				}
				f.NodeImage("image", url)
				c := f.Claim("disk", "image", edit)
				f.RequireBound(c)
				f.RequireDisk(c, f.Disk(diskSize))
				f.RequireNoScratch(c)
				f.RequireNothingLeft(c)
			})
		}
	}
}

// TestTheNodeShowsCredentials has the node pull from a registry that lets nobody in without them.
func TestTheNodeShowsCredentials(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(f *fixture, host, user, password string) func(*v1alpha1.VMDiskImageSpec){
		"dockerconfigjson": func(f *fixture, host, user, password string) func(*v1alpha1.VMDiskImageSpec) {
			f.PullSecret("login", host, user, password)
			return withSecret
		},
		"username and password": func(f *fixture, _, user, password string) func(*v1alpha1.VMDiskImageSpec) {
			f.Secret("login", map[string]string{"username": user, "password": password})
			return withSecret
		},
		"default's pull secrets": func(f *fixture, host, user, password string) func(*v1alpha1.VMDiskImageSpec) {
			f.PullSecret("pull", host, user, password)
			f.PullSecretsOfDefault("pull")
			return func(*v1alpha1.VMDiskImageSpec) {}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			p := f.Push("disk", f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
			p.host = f.forwardToRegistry(guardedPort)
			user, password := f.RegistryUser()
			f.NodeImage("image", fmt.Sprintf("docker://%s/%s:%s", p.host, p.repository, p.tag), prepare(f, p.host, user, password))
			c := f.Claim("disk", "image", block)
			f.RequireBound(c)
			f.RequireDisk(c, f.Disk(diskSize))
			f.RequireNothingLeft(c)
		})
	}
}

// forwardToRegistry listens on the loopback of this machine, where nodes pull without TLS, for a port of the registry.
func (f *fixture) forwardToRegistry(port int) (host string) {
	f.Helper()
	f.NeedsTestCluster("a node on this machine")
	pod := &corev1.Pod{}
	require.NoError(f, f.Get(f.ctx, client.ObjectKey{Namespace: f.webNamespace(), Name: registryName}, pod))
	to := net.JoinHostPort(pod.Status.PodIP, fmt.Sprint(port))
	// The connections end with the test.
	ctx := f.ctx
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	require.NoError(f, err)
	var forwards sync.WaitGroup
	f.Cleanup(func() {
		_ = listener.Close()
		forwards.Wait()
	})
	forwards.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			forwards.Go(func() { forward(ctx, from, to) })
		}
	})
	return listener.Addr().String()
}

// forward connects a connection with an address until either side ends it or ctx ends.
func forward(ctx context.Context, from net.Conn, address string) {
	defer func() { _ = from.Close() }()
	to, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	ended := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			// Whichever way ends first, the client sees the connection end.
			_, _ = io.Copy(pair[0], pair[1])
			ended <- struct{}{}
		}()
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// TestTheNodeCannotPull fails after some tries, with the reason of the node, and starts anew.
func TestTheNodeCannotPull(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// url names an image that cannot be pulled. says is in the message.
		url  func(*fixture) string
		says string
	}{
		"no such image": {func(f *fixture) string {
			byTag, _ := f.PushForNodes("disk", f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
			return strings.TrimSuffix(byTag, ":1") + ":2"
		}, "not found"},
		"no credentials": {func(f *fixture) string {
			p := f.Push("disk", f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
			return fmt.Sprintf("docker://%s/%s:%s", f.forwardToRegistry(guardedPort), p.repository, p.tag)
		}, "auth"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			f.NodeImage("image", test.url(f))
			c := f.Claim("disk", "image", block)
			failed := f.RequireFailed(c, "ImagePullFailed")
			require.Contains(t, ready(failed).Message, test.says)
			require.Contains(t, ready(failed).Message, "pullMethod: pod")

			byTag, _ := f.PushForNodes("good", f.containerDisk(gzipTar, "disk.qcow2", f.qcow2()))
			f.EditImage("image", func(spec *v1alpha1.VMDiskImageSpec) { spec.Source.Registry.URL = byTag })
			f.WaitAnew(c, failed)
			f.RequireBound(c)
			f.RequireDisk(c, f.Disk(diskSize))
			f.RequireNothingLeft(c)
		})
	}
}

// TestRefusesWhatTheNodePulled refuses images that the node can pull and that hold no disk, or not one.
func TestRefusesWhatTheNodePulled(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason  string
		entries func(*fixture) []tarEntry
	}{
		"no disk": {"NotFound", func(*fixture) []tarEntry { return []tarEntry{{name: "etc/passwd", content: []byte("root")}} }},
		"two disks": {"SeveralDisks", func(f *fixture) []tarEntry {
			return append(diskEntries("a.qcow2", f.qcow2()), diskEntries("b.qcow2", f.qcow2())[1])
		}},
		"a link": {"NoDisk", func(*fixture) []tarEntry {
			return []tarEntry{{name: "disk/", kind: '5', mode: 0o755}, {name: "disk/disk.img", kind: '2', link: "/etc/passwd"}}
		}},
		"a cut disk": {"TruncatedImage", func(f *fixture) []tarEntry {
			content := f.qcow2()
			return diskEntries("disk.qcow2", content[:len(content)/2])
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			byTag, _ := f.PushForNodes("disk", f.container(f.layer(gzipTar, test.entries(f)...)))
			f.NodeImage("image", byTag)
			f.RequireFailed(f.Claim("disk", "image", block), test.reason)
		})
	}
}

// TestTheNodeChoosesItsPlatform has the node pull an index.
func TestTheNodeChoosesItsPlatform(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.NeedsTestCluster("a node whose platform is this machine's")
	other := f.Disk(diskSize)
	other.Seed++
	images := map[string]ociImage{
		runtime.GOARCH: containerOf(runtime.GOARCH, f.layer(gzipTar, diskEntries("disk.qcow2", f.qcow2())...)),
		"s390x":        containerOf("s390x", f.layer(gzipTar, diskEntries("disk.qcow2", f.convert(other, "qcow2"))...)),
	}
	host, _, _ := strings.Cut(f.images, "/")
	to := endpoint{client: http.DefaultClient, base: "http://" + host}
	_, err := to.index(f.ctx, f.namespace+"/disk", "1", images)
	require.NoError(t, err)
	f.NodeImage("image", fmt.Sprintf("docker://%s/%s/disk:1", host, f.namespace))
	c := f.Claim("disk", "image", block)
	f.RequireBound(c)
	f.RequireDisk(c, f.Disk(diskSize))
	f.RequireNothingLeft(c)
}
