package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain finds goroutines that a test leaves behind. As a child of a test it writes files as
// the user that it runs as.
func TestMain(m *testing.M) {
	if dir, child := os.LookupEnv(childDir); child {
		os.Exit(writeAsChild(context.Background(), dir)) //nolint:forbidigo // a child has no test that ends it
	}
	goleak.VerifyTestMain(m)
}

// item is an entry whose content is at hand.
type item struct {
	tar.Header
	content []byte
}

func (i item) sum() string {
	sum := sha256.Sum256(i.content)
	return hex.EncodeToString(sum[:])
}

func entriesOf(items []item) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for _, i := range items {
			if !yield(entry(i), nil) {
				return
			}
		}
	}
}

func entry(i item) Entry {
	h := i.Header
	h.Size = int64(len(i.content))
	return Entry{Header: &h, Content: bytes.NewReader(i.content)}
}

func dir(name string, mode int64) item {
	return item{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: time.Unix(1600000001, 0)}}
}

func file(name, content string) item {
	return item{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(1600000002, 7)}, content: []byte(content)}
}

func link(kind byte, name, target string) item {
	return item{Header: tar.Header{Typeflag: kind, Name: name, Linkname: target, Mode: 0o777, ModTime: time.Unix(1600000003, 0)}}
}

func (i item) owned(uid, gid int, mode int64) item {
	i.Uid, i.Gid, i.Mode = uid, gid, mode
	return i
}

func (i item) at(t time.Time) item {
	i.ModTime = t
	return i
}

func (i item) with(attributes ...string) item {
	i.PAXRecords = map[string]string{}
	for ; len(attributes) > 0; attributes = attributes[2:] {
		i.PAXRecords["SCHILY.xattr."+attributes[0]] = attributes[1]
	}
	return i
}

func device(kind byte, name string, major, minor int64) item {
	return item{Header: tar.Header{Typeflag: kind, Name: name, Mode: 0o660, Devmajor: major, Devminor: minor, ModTime: time.Unix(1600000004, 0)}}
}

const (
	// capability is cap_net_raw+ep, accessControl is user::rw-,user:70000:r--,group::r--,mask::r--,other::r--.
	capability    = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	accessControl = "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x70\x11\x01\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
)

// everything has each kind of entry that an image may hold.
func everything() []item {
	holes := make([]byte, 3<<20)
	copy(holes[1<<20:], "in the middle")
	return []item{
		dir(".", 0o751).owned(3, 4, 0o751),
		dir("etc", 0o755), file("etc/passwd", "root:x:0:0\n"), file("etc/empty", ""),
		dir("bin", 0o755), file("bin/su", "#!").owned(0, 0, 0o6755), file("bin/far", "x").owned(4294967294, 70001, 0o000),
		file("bin/ping", "ping").with("security.capability", capability).owned(0, 0, 0o755),
		dir("tmp", 0o1777).owned(0, 0, 0o1777), dir("shared", 0o2775).owned(1, 50, 0o2775), dir("closed", 0o555), file("closed/in", "in"),
		link(tar.TypeSymlink, "etc/short", "/etc/passwd"), link(tar.TypeSymlink, "etc/up", "../../../../etc/passwd"),
		link(tar.TypeSymlink, "etc/inline", strings.Repeat("i", 59)), link(tar.TypeSymlink, "etc/block", strings.Repeat("b", 60)),
		link(tar.TypeSymlink, "etc/long", strings.Repeat("a/", 2000)+"end").owned(12, 13, 0o777),
		link(tar.TypeLink, "bin/su-again", "bin/su"), link(tar.TypeLink, "etc/third", "bin/su"), link(tar.TypeLink, "etc/link-to-link", "etc/short"),
		device(tar.TypeChar, "null", 1, 3), device(tar.TypeBlock, "disk", 259, 70000), device(tar.TypeFifo, "fifo", 0, 0),
		file("new\nline \"quoted\" \\ \t", "odd"), file(strings.Repeat("n", 255), "long"), file("bytes-\xff\xfe", "no UTF-8"), file("ünï", "UTF-8"),
		file("old", "1950").at(time.Unix(-600000000, 0)), file("later", "2100").at(time.Unix(4102444800, 123456789)),
		file("labelled", "l").with("security.selinux", "system_u:object_r:etc_t:s0\x00", "user.note", "hello", "user.empty", ""),
		file("many", "m").with("user.big", strings.Repeat("v", 3000), "user.b", strings.Repeat("2", 90), "user.aa", strings.Repeat("3", 90),
			"user.c", strings.Repeat("4", 90), "security.x", strings.Repeat("5", 90), "trusted.t", "6"),
		file("listed", "acl").with("system.posix_acl_access", accessControl).owned(0, 0, 0o644),
		dir("labelled.d", 0o700).with("user.note", "directory", "security.selinux", strings.Repeat("s", 200)),
		{Header: file("holes", "").Header, content: holes}, {Header: file("zeros", "").Header, content: make([]byte, 5<<20+1)},
		{Header: file("large", "").Header, content: noise(9<<20 + 4095)}, {Header: file("aligned", "").Header, content: noise(8192)},
		file("usr/lib/without/parents", "p"),
	}
}

// crowd is a directory with so many files.
func crowd(n int) []item {
	items := []item{dir("crowd", 0o755)}
	for i := range n {
		items = append(items, file(fmt.Sprintf("crowd/one-of-very-many-%05d", i), ""))
	}
	return items
}

// noise has no two blocks alike.
func noise(size int) []byte {
	out := make([]byte, 0, size+32)
	for n := 0; len(out) < size; n++ {
		sum := sha256.Sum256(fmt.Append(nil, n))
		out = append(out, sum[:]...)
	}
	return out[:size]
}

// expectTree compares what is below a directory with the entries. Only as root does all of an
// entry come back.
func expectTree(t *testing.T, top string, items []item, privileged bool) {
	t.Helper()
	inodes := map[string]uint64{}
	for _, i := range items {
		name := filepath.Join(top, i.Name)
		var stat unix.Stat_t
		require.NoError(t, unix.Lstat(name, &stat), "%q", i.Name)
		inodes[path.Clean(i.Name)] = stat.Ino
		if i.Typeflag == tar.TypeLink {
			require.Equal(t, inodes[path.Clean(i.Linkname)], stat.Ino, "%q", i.Name)
			continue
		}
		expectItem(t, name, i, &stat, privileged)
	}
	for name := range inodes {
		delete(inodes, name)
		for ; name != "."; name = path.Dir(name) {
			inodes[name] = 0
		}
	}
	found := 0
	require.NoError(t, filepath.WalkDir(top, func(name string, _ fs.DirEntry, err error) error {
		if name != top && name != filepath.Join(top, lostFound) {
			found++
		}
		return err
	}))
	require.Equal(t, len(inodes), found, "entries that nobody asked for")
}

func expectItem(t *testing.T, name string, i item, stat *unix.Stat_t, privileged bool) {
	t.Helper()
	kinds := map[byte]uint32{
		tar.TypeReg: unix.S_IFREG, tar.TypeDir: unix.S_IFDIR, tar.TypeSymlink: unix.S_IFLNK,
		tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO,
	}
	mode := uint32(i.Mode)
	if !privileged && i.Typeflag == tar.TypeReg {
		mode &^= 0o6000
	}
	require.Equal(t, fmt.Sprintf("%#o", kinds[i.Typeflag]|mode), fmt.Sprintf("%#o", stat.Mode), "%q", i.Name)
	require.Equal(t, i.ModTime.UnixNano(), stat.Mtim.Nano(), "%q", i.Name)
	if privileged {
		require.Equal(t, [2]int{i.Uid, i.Gid}, [2]int{int(stat.Uid), int(stat.Gid)}, "%q", i.Name)
	}
	switch i.Typeflag {
	case tar.TypeReg:
		if !privileged && mode&0o400 == 0 {
			break
		}
		f, err := os.Open(name)
		require.NoError(t, err)
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		require.NoError(t, errors.Join(err, f.Close()))
		require.Equal(t, i.sum(), hex.EncodeToString(sum.Sum(nil)), "%q", i.Name)
	case tar.TypeSymlink:
		text, err := os.Readlink(name)
		require.NoError(t, err)
		require.Equal(t, i.Linkname, text, "%q", i.Name)
	case tar.TypeChar, tar.TypeBlock:
		require.Equal(t, [2]int64{i.Devmajor, i.Devminor}, [2]int64{int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))}, "%q", i.Name)
	}
	want := map[string]string{}
	for record, value := range i.PAXRecords {
		if attribute, found := strings.CutPrefix(record, "SCHILY.xattr."); found && (privileged || strings.HasPrefix(attribute, "user.")) {
			want[attribute] = value
		}
	}
	require.Equal(t, want, attributesOf(t, name), "%q", i.Name)
}

func attributesOf(t *testing.T, name string) map[string]string {
	t.Helper()
	buffer := make([]byte, 1<<16)
	n, err := unix.Llistxattr(name, buffer)
	require.NoError(t, err)
	found := map[string]string{}
	for attribute := range strings.SplitSeq(strings.TrimSuffix(string(buffer[:n]), "\x00"), "\x00") {
		if attribute == "" {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(name, attribute, value)
		require.NoError(t, err)
		found[attribute] = string(value[:n])
	}
	return found
}

// needRoot skips a test that mounts.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root: run the tests as root to see what the kernel finds")
	}
}

// command runs a program that must succeed.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s\n%s", name, strings.Join(args, " "), out)
}

// mounted mounts a file system for the time of a test. The returned function unmounts it.
func mounted(t *testing.T, args ...string) (dir string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	command(t, "mount", append(slices.Clone(args), dir)...)
	gone := false
	unmount = func() {
		if !gone {
			gone = true
			require.NoError(t, unix.Unmount(dir, 0))
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// scratch is an empty file for a file system.
func scratch(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(dir, "")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// reasonOf is the reason of an error, empty for none.
func reasonOf(err error) string {
	var known interface{ Reason() string }
	if errors.As(err, &known) {
		return known.Reason()
	}
	return ""
}

func unixTime(seconds int64) time.Time { return time.Unix(seconds, 0) }
