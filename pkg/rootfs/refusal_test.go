package rootfs

import (
	"archive/tar"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/gild-project/gild/pkg/format/refusal"
)

func TestTooSmallASizeTellsWhichIsEnough(t *testing.T) {
	big := []item{{Header: file("a", "").Header, content: noise(40 << 20)}, {Header: file("b", "").Header, content: noise(80 << 20)}, file("c", "last")}
	var crowd []item
	for n := range 30000 {
		crowd = append(crowd, file(fmt.Sprintf("d/%d", n), ""))
	}
	for name, items := range map[string][]item{"bytes": big, "files": crowd} {
		t.Run(name, func(t *testing.T) {
			f := scratch(t, t.TempDir())
			_, err := Ext4(t.Context(), entriesOf(items), f, 64<<20, Options{})
			require.Equal(t, refusal.TooLarge, reasonOf(err), "%v", err)
			said := regexp.MustCompile(`ask for at least (\d+) MiB`).FindStringSubmatch(err.Error())
			require.Len(t, said, 2)
			enough, err := strconv.ParseInt(said[1], 10, 64)
			require.NoError(t, err)
			_, err = Ext4(t.Context(), entriesOf(items), f, enough<<20, Options{})
			require.NoError(t, err)
		})
	}
	_, err := Ext4(t.Context(), entriesOf(nil), scratch(t, t.TempDir()), 1<<20, Options{})
	require.Equal(t, refusal.TooLarge, reasonOf(err), "%v", err)
}

func TestWhatExt4CannotHold(t *testing.T) {
	links := []item{file("a", "")}
	for n := range 65000 {
		links = append(links, link(tar.TypeLink, fmt.Sprint(n), "a"))
	}
	const failed, unsafe = refusal.ConversionFailed, refusal.UnsafeImage
	for name, c := range map[string]struct {
		items  []item
		reason string
	}{
		"climbs":                          {[]item{file("a/../../b", "x")}, unsafe},
		"hard link climbs":                {[]item{link(tar.TypeLink, "a", "../b")}, unsafe},
		"long name":                       {[]item{file(strings.Repeat("a", 256), "x")}, failed},
		"long link":                       {[]item{link(tar.TypeSymlink, "a", strings.Repeat("a", 4096))}, failed},
		"link with a zero byte":           {[]item{link(tar.TypeSymlink, "a", "b\x00c")}, failed},
		"link to nowhere":                 {[]item{link(tar.TypeSymlink, "a", "")}, failed},
		"too many links":                  {links, failed},
		"hard link to nothing":            {[]item{link(tar.TypeLink, "b", "a")}, failed},
		"hard link to itself":             {[]item{link(tar.TypeLink, "b", "b")}, failed},
		"hard link to a dir":              {[]item{dir("a", 0o755), link(tar.TypeLink, "b", "a")}, failed},
		"twice":                           {[]item{file("a", "x"), file("a", "y")}, failed},
		"directory twice as file":         {[]item{dir("a", 0o755), file("a", "y")}, failed},
		"below a file":                    {[]item{file("a", "x"), file("a/b", "y")}, failed},
		"below a link":                    {[]item{link(tar.TypeSymlink, "a", "/"), file("a/b", "y")}, failed},
		"file lost+found":                 {[]item{file(lostFound, "x")}, failed},
		"file as root":                    {[]item{file(".", "x")}, failed},
		"large device":                    {[]item{device(tar.TypeChar, "a", 1<<12, 0)}, failed},
		"negative device":                 {[]item{device(tar.TypeChar, "a", -1, 0)}, failed},
		"negative owner":                  {[]item{file("a", "x").owned(-1, 0, 0)}, failed},
		"huge owner":                      {[]item{file("a", "x").owned(0, 1<<32, 0)}, failed},
		"large attribute":                 {[]item{file("a", "x").with("user.a", strings.Repeat("x", 5000))}, failed},
		"large attributes of a directory": {[]item{dir("a", 0o755).with("user.a", strings.Repeat("x", 5000))}, failed},
		"bad access list":                 {[]item{file("a", "x").with("system.posix_acl_access", "x")}, failed},
		"zero byte":                       {[]item{file("a\x00b", "x")}, refusal.CorruptImage},
		"unknown type":                    {[]item{link('Z', "a", "")}, failed},
		"in lost+found":                   {[]item{dir(lostFound, 0o700), file("lost+found/a", "x")}, ""},
		"nothing":                         {nil, ""},
		"distant times":                   {[]item{file("a", "x").at(unixTime(-1 << 40)), file("b", "x").at(unixTime(1 << 40))}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := scratch(t, t.TempDir())
			_, err := Ext4(t.Context(), entriesOf(c.items), f, 64<<20, Options{})
			require.Equal(t, c.reason, reasonOf(err), "%v", err)
			if c.reason == "" {
				require.NoError(t, err)
				command(t, "e2fsck", "-f", "-n", f.Name())
			}
		})
	}
}

func TestStrangeAttributesAreTold(t *testing.T) {
	var notices []string
	o := Options{Notice: func(text string) { notices = append(notices, text) }}
	items := []item{file("a", "x").with("com.apple.provenance", "x", "user.", "x", "system.nfs4_acl", "x", "user.kept", "x")}
	_, err := Ext4(t.Context(), entriesOf(items), scratch(t, t.TempDir()), 64<<20, o)
	require.NoError(t, err)
	require.Equal(t, []string{"left out 3 extended attributes that Linux does not know"}, notices)
}

func TestFullScratch(t *testing.T) {
	needRoot(t)
	dir, _ := mounted(t, "-t", "tmpfs", "-o", "size=12m", "gild-test")
	f := scratch(t, dir)
	big := item{Header: file("big", "").Header, content: noise(20 << 20)}
	_, err := Ext4(t.Context(), entriesOf([]item{big}), f, 512<<20, Options{})
	require.Equal(t, noScratchSpace, reasonOf(err), "%v", err)
	require.NoError(t, f.Truncate(0))
	require.NoError(t, os.WriteFile(dir+"/other", noise(12<<20-8192), 0o600))
	_, err = Ext4(t.Context(), entriesOf(nil), f, 512<<20, Options{})
	require.Equal(t, noScratchSpace, reasonOf(err), "mke2fs: %v", err)
}

func TestWithoutE2fsprogs(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Ext4(t.Context(), entriesOf(nil), scratch(t, t.TempDir()), 64<<20, Options{})
	require.Equal(t, refusal.InternalError, reasonOf(err))
	require.ErrorContains(t, err, "install e2fsprogs")
}

// A read-only file stands for a scratch volume that failed.
func TestUnwritableScratch(t *testing.T) {
	name := t.TempDir() + "/file"
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	f, err := os.Open(name)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	_, err = Ext4(t.Context(), entriesOf(nil), f, 64<<20, Options{})
	require.ErrorIs(t, err, unix.EINVAL)
}
