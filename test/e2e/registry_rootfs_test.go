//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/test/imageserver/tree"
)

// rootfsSize is the size of the disks that are made of an image's files.
const rootfsSize = 64 * mib

// rootfs is a container image of two layers with all that files can have.
func (f *fixture) rootfs() ociImage {
	f.Helper()
	directory := func(name string, mode int64) tarEntry { return tarEntry{name: name + "/", kind: '5', mode: mode} }
	return f.container(
		f.layer(gzipTar,
			directory("bin", 0o755), directory("etc", 0o755), directory("usr", 0o755), directory("usr/lib", 0o755), directory("var", 0o755),
			directory("var/log", 0o755), directory("tmp", 0o1777),
			tarEntry{name: "bin/sh", content: []byte("a shell"), mode: 0o755},
			tarEntry{name: "bin/su", content: []byte("su"), mode: 0o4755},
			tarEntry{name: "bin/ping", content: []byte("ping"), mode: 0o755, xattrs: map[string]string{"user.note": "kept"}},
			tarEntry{name: "etc/passwd", content: []byte("old")},
			tarEntry{name: "etc/shadow", content: []byte("secret"), mode: 0o640, gid: 42},
			tarEntry{name: "etc/old", content: []byte("old")},
			tarEntry{name: "var/log/old", content: []byte("old")},
			tarEntry{name: "usr/lib/one", content: []byte("a library")},
			tarEntry{name: "usr/lib/two", kind: '1', link: "usr/lib/one"},
			tarEntry{name: "lib", kind: '2', link: "usr/lib", mode: 0o777},
			tarEntry{name: "home", kind: '5', mode: 0o700, uid: 1000, gid: 1000},
		),
		f.layer(zstdTar,
			tarEntry{name: "etc/passwd", content: []byte("new")}, tarEntry{name: "etc/.wh.old"},
			tarEntry{name: "var/log/.wh..wh..opq"}, tarEntry{name: "var/log/new", content: []byte("new")},
		),
	)
}

// RequireRootfs proves by e2fsprogs that a raw disk is an ext4 file system with the files of rootfs.
func (f *fixture) RequireRootfs(disk string) {
	f.Helper()
	text, err := output(exec.CommandContext(f.ctx, "e2fsck", "-f", "-n", disk))
	require.NoError(f, err, "%s\nthe tests need e2fsck: install e2fsprogs", text)
	ask := func(request string) string {
		text, err := output(exec.CommandContext(f.ctx, "debugfs", "-R", request, disk))
		require.NoError(f, err)
		return strings.Join(strings.Fields(text), " ")
	}
	for name, want := range map[string]string{
		"/bin/sh":      `Type: regular Mode: 0755 .*User: 0 Group: 0 `,
		"/bin/su":      `Type: regular Mode: 04755 `,
		"/bin/ping":    `user\.note \(4\) = "kept"`,
		"/etc/shadow":  `Type: regular Mode: 0640 .*User: 0 Group: 42 `,
		"/tmp":         `Type: directory Mode: 01777 `,
		"/home":        `Type: directory Mode: 0700 .*User: 1000 Group: 1000 `,
		"/usr/lib/one": `Links: 2 `,
		"/lib":         `Type: symlink .*Fast link dest: "usr/lib"`,
	} {
		require.Regexp(f, regexp.MustCompile(want), ask("stat "+name), name)
	}
	inode := func(name string) string {
		found := regexp.MustCompile(`^Inode: (\d+)`).FindString(ask("stat " + name))
		require.NotEmpty(f, found, name)
		return found
	}
	require.Equal(f, inode("/usr/lib/one"), inode("/usr/lib/two"), "a hard link became a copy")
	for name, want := range map[string]string{
		"/bin/sh": "a shell", "/bin/su": "su", "/bin/ping": "ping", "/etc/passwd": "new", "/etc/shadow": "secret",
		"/usr/lib/one": "a library", "/var/log/new": "new",
	} {
		require.Equal(f, want, ask("cat "+name), name)
	}
	for _, folder := range []string{"/etc", "/var/log"} {
		require.NotContains(f, ask("ls "+folder), "old", "a whiteout was not heeded")
		require.NotContains(f, ask("ls "+folder), ".wh.", "a whiteout became a file")
	}
}

// rootfsOf asks for a disk made of an image's files.
func rootfsOf(size int64, format v1alpha1.DiskFormat) func(*v1alpha1.VMDiskImageSpec) {
	return func(spec *v1alpha1.VMDiskImageSpec) {
		spec.Size, spec.Format = resource.NewQuantity(size, resource.BinarySI), format
	}
}

// TestMakesADiskOfAContainerImage has an image without a disk become one.
func TestMakesADiskOfAContainerImage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		format v1alpha1.DiskFormat
		edit   func(*corev1.PersistentVolumeClaim)
		read   func(f *fixture, c claim, to string)
	}{
		"raw on Filesystem": {v1alpha1.DiskFormatRaw, func(*corev1.PersistentVolumeClaim) {}, func(f *fixture, c claim, to string) {
			require.NoError(f, os.WriteFile(to, f.Download(c), 0o600))
		}},
		"raw on Block":        {v1alpha1.DiskFormatRaw, block, (*fixture).readDevice},
		"qcow2 on Filesystem": {v1alpha1.DiskFormatQcow2, func(*corev1.PersistentVolumeClaim) {}, (*fixture).readQcow2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			p := f.Push("root", f.rootfs())
			f.RegistryImage("image", p.URL(tlsPort), rootfsOf(rootfsSize, test.format))
			c := f.Claim("disk", "image", test.edit)
			imp := f.RequireBound(c)
			require.Equal(t, p.digest, imp.Status.Result.Digest)
			require.Equal(t, rootfsSize, imp.Status.Result.VirtualSize)
			f.RequireNothingLeft(c)
			disk := filepath.Join(t.TempDir(), "disk.raw")
			test.read(f, c, disk)
			f.RequireRootfs(disk)
		})
	}
}

// readDevice copies a Block volume, which the test cluster keeps in a file of this machine.
func (f *fixture) readDevice(c claim, to string) {
	f.Helper()
	f.NeedsTestCluster("storage on this machine")
	volume := &corev1.PersistentVolume{}
	require.NoError(f, f.Get(f.ctx, client.ObjectKey{Name: f.PVC(c).Spec.VolumeName}, volume))
	content, err := os.ReadFile(filepath.Join(filepath.Dir(f.kubeconfig), "volumes", volume.Spec.CSI.VolumeHandle+".img"))
	require.NoError(f, err)
	require.NoError(f, os.WriteFile(to, content, 0o600))
}

// readQcow2 converts the qcow2 file of a volume.
func (f *fixture) readQcow2(c claim, to string) {
	f.Helper()
	require.NoError(f, os.WriteFile(to+".qcow2", f.Download(c), 0o600))
	f.qemuImg("check", "-f", "qcow2", to+".qcow2")
	f.qemuImg("convert", "-f", "qcow2", "-O", "raw", to+".qcow2", to)
}

// TestTakesTheFilesOfAContainerImage has them written to a Filesystem volume as they are.
func TestTakesTheFilesOfAContainerImage(t *testing.T) {
	t.Parallel()
	f := start(t)
	p := f.Push("root", f.rootfs())
	f.RegistryImage("image", p.URL(tlsPort), func(spec *v1alpha1.VMDiskImageSpec) {
		spec.Source.Registry.Content = v1alpha1.ImageContentFiles
	})
	c := f.Claim("files", "image")
	imp := f.RequireBound(c)
	require.Equal(t, p.digest, imp.Status.Result.Digest)
	f.RequireNothingLeft(c)

	entries := f.Tree(c)
	for name, want := range map[string]tree.Entry{
		"bin/sh":      {Kind: "-", Text: "a shell", Executable: true, Links: 1},
		"etc/passwd":  {Kind: "-", Text: "new", Links: 1},
		"var/log/new": {Kind: "-", Text: "new", Links: 1},
		"usr/lib/two": {Kind: "-", Text: "a library", Links: 2},
		"lib":         {Kind: "L", Text: "usr/lib", Links: 1},
	} {
		require.Equal(t, want, entries[name], name)
	}
	for _, name := range []string{"etc/old", "etc/.wh.old", "var/log/old", "var/log/.wh..wh..opq", "disk.img"} {
		require.NotContains(t, entries, name)
	}
}

// Tree lists what is on a Filesystem volume.
func (f *fixture) Tree(c claim) map[string]tree.Entry {
	f.Helper()
	pod := f.newPod(f.namespace, "tree-"+c.name, c, "tree", mountPath)
	require.NoError(f, f.Create(f.ctx, pod))
	f.Eventually("the volume listed", importWithin, func(ctx context.Context) (bool, string, error) {
		err := f.Get(ctx, client.ObjectKeyFromObject(pod), pod)
		return pod.Status.Phase == corev1.PodSucceeded, describePod(pod), err
	})
	var entries map[string]tree.Entry
	require.NoError(f, json.Unmarshal([]byte(pod.Status.ContainerStatuses[0].State.Terminated.Message), &entries))
	require.NoError(f, f.Delete(f.ctx, pod))
	return entries
}

// TestFilesNeedAFilesystem refuses them on a Block volume.
func TestFilesNeedAFilesystem(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.RegistryImage("image", f.Push("root", f.rootfs()).URL(tlsPort), func(spec *v1alpha1.VMDiskImageSpec) {
		spec.Source.Registry.Content = v1alpha1.ImageContentFiles
	})
	c := f.Claim("files", "image", block)
	imp := f.WaitImport(c, "failure", importWithin, func(imp *v1alpha1.VMDiskImport) bool {
		return imp.Status.Phase == v1alpha1.PhaseFailed
	})
	require.Contains(t, ready(imp).Message, "Filesystem")
	require.Equal(t, corev1.ClaimPending, f.PVC(c).Status.Phase)
	f.RequireNothingLeft(c)
}

// TestRefusesHostileFiles refuses layers whose files would leave their folder, or do not fit.
func TestRefusesHostileFiles(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason  string
		entries []tarEntry
	}{
		"a name that leads out":    {"UnsafeImage", []tarEntry{{name: "../../etc/passwd", content: []byte("root")}}},
		"a file below a link":      {"UnsafeImage", []tarEntry{{name: "etc", kind: '2', link: "/etc"}, {name: "etc/passwd", content: []byte("root")}}},
		"a hard link to nothing":   {"CorruptImage", []tarEntry{{name: "etc/passwd", kind: '1', link: "etc/shadow"}}},
		"more than the disk holds": {"TooLarge", []tarEntry{{name: "large", content: bytes.Repeat([]byte("data"), int(rootfsSize+mib)/4)}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			p := f.Push("root", f.container(f.layer(gzipTar, test.entries...)))
			f.RegistryImage("image", p.URL(tlsPort), rootfsOf(rootfsSize, v1alpha1.DiskFormatRaw), func(spec *v1alpha1.VMDiskImageSpec) {
				spec.Source.Registry.Content = v1alpha1.ImageContentRootfs
			})
			f.RequireFailed(f.Claim("disk", "image", block), test.reason)
		})
	}
}
