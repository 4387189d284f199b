package format_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format"
	"github.com/gild-project/gild/pkg/format/refusal"
)

// image writes marks into zeros, at the offsets where they belong.
func image(size int, marks map[int]string) []byte {
	b := make([]byte, size)
	for off, mark := range marks {
		copy(b[off:], mark)
	}
	return b
}

func reason(t *testing.T, err error) string {
	t.Helper()
	var e *refusal.Error
	require.ErrorAs(t, err, &e)
	return e.Reason()
}

func TestDetect(t *testing.T) {
	const mbr = "\x55\xaa"
	footer := image(512, map[int]string{0: "conectix"})
	cases := map[string]struct {
		head   []byte
		tail   []byte
		kind   string
		want   format.Format
		fail   string
		unsafe bool
	}{
		"zeros":                   {head: image(4096, nil), want: format.Raw},
		"one byte":                {head: []byte("x"), want: format.Raw},
		"mbr":                     {head: image(4096, map[int]string{510: mbr}), want: format.Raw},
		"gpt":                     {head: image(4096, map[int]string{510: mbr, 512: "EFI PART"}), want: format.Raw},
		"iso":                     {head: image(40960, map[int]string{32769: "CD001"}), want: format.ISO},
		"hybrid iso":              {head: image(40960, map[int]string{510: mbr, 512: "EFI PART", 32769: "CD001"}), want: format.ISO},
		"iso as text/html":        {head: image(40960, map[int]string{32769: "CD001"}), kind: "text/html", want: format.ISO},
		"qcow2 as text/html":      {head: image(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x03"}), kind: "text/html", want: format.Qcow2},
		"qcow2 version 2":         {head: image(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x02"}), want: format.Qcow2},
		"qcow2 version 9":         {head: image(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x09"}), want: format.Qcow2},
		"qcow":                    {head: image(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x01"}), fail: "is qcow,"},
		"qed":                     {head: image(4096, map[int]string{0: "QED\x00"}), fail: "is qed,"},
		"vmdk":                    {head: image(4096, map[int]string{0: "KDMV"}), want: format.VMDK},
		"vmdk of ESX":             {head: image(4096, map[int]string{0: "COWD"}), fail: "(COWD)"},
		"parallels":               {head: image(4096, map[int]string{0: "WithoutFreeSpace"}), fail: "qemu-img convert"},
		"7z":                      {head: image(4096, map[int]string{0: "7z\xbc\xaf\x27\x1c"}), fail: "unpack it"},
		"vmdk descriptor":         {head: []byte("# Disk DescriptorFile\nversion=1\n"), unsafe: true, fail: "names other files"},
		"vmdk descriptor, qemu's": {head: []byte("#x\r\n\n  \nversion=1\n\x00\x00"), unsafe: true, fail: "names other files"},
		"vhd dynamic":             {head: image(4096, map[int]string{0: "conectix"}), tail: footer, want: format.VHD},
		"vhd fixed":               {head: image(4096, map[int]string{510: mbr}), tail: footer, want: format.VHD},
		"vhd fixed, odd":          {head: image(4096, nil), tail: image(512, map[int]string{1: "conectix"}), want: format.VHD},
		"vhdx":                    {head: image(4096, map[int]string{0: "vhdxfile"}), want: format.VHDX},
		"vdi":                     {head: image(4096, map[int]string{64: "\x7f\x10\xda\xbe"}), want: format.VDI},
		"luks":                    {head: image(4096, map[int]string{0: "LUKS\xba\xbe"}), fail: "is luks,"},
		"dmg":                     {head: image(4096, nil), tail: image(512, map[int]string{0: "koly"}), fail: "is dmg,"},
		"gz":                      {head: image(4096, map[int]string{0: "\x1f\x8b"}), want: format.Gzip},
		"gz with chance mbr":      {head: image(4096, map[int]string{0: "\x1f\x8b", 510: mbr}), want: format.Gzip},
		"xz":                      {head: image(4096, map[int]string{0: "\xfd7zXZ\x00"}), want: format.XZ},
		"zst":                     {head: image(4096, map[int]string{0: "\x28\xb5\x2f\xfd"}), want: format.Zstd},
		"zst skippable":           {head: image(4096, map[int]string{0: "\x5e\x2a\x4d\x18"}), want: format.Zstd},
		"bz2":                     {head: image(4096, map[int]string{0: "BZh91AY&SY"}), want: format.Bzip2},
		"lz4":                     {head: image(4096, map[int]string{0: "\x04\x22\x4d\x18"}), fail: "is lz4,"},
		"tar":                     {head: image(4096, map[int]string{257: "ustar"}), fail: "is tar,"},
		"zip":                     {head: image(4096, map[int]string{0: "PK\x03\x04"}), fail: "is zip,"},
		"BZh text":                {head: []byte("BZhello"), want: format.Raw},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := format.Detect(format.Sample{Head: c.head, Tail: c.tail, ContentType: c.kind}, "")
			if c.fail != "" {
				want := refusal.UnsupportedFormat
				if c.unsafe {
					want = refusal.UnsafeImage
				}
				require.Equal(t, want, reason(t, err))
				require.ErrorContains(t, err, c.fail)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestDetectRefusesTwoFormatsAtOnce(t *testing.T) {
	const qcow2 = "QFI\xfb\x00\x00\x00\x03"
	for name, s := range map[string]format.Sample{
		"qcow2 and mbr":       {Head: image(4096, map[int]string{0: qcow2, 510: "\x55\xaa"})},
		"qcow2 and gpt":       {Head: image(4096, map[int]string{0: qcow2, 512: "EFI PART"})},
		"qcow2 and 4Kn gpt":   {Head: image(8192, map[int]string{0: qcow2, 4096: "EFI PART"})},
		"qcow2 and iso":       {Head: image(40960, map[int]string{0: qcow2, 32769: "CD001"})},
		"qcow2 and fixed vhd": {Head: image(4096, map[int]string{0: qcow2}), Tail: image(512, map[int]string{0: "conectix"})},
		"vmdk and mbr":        {Head: image(4096, map[int]string{0: "KDMV", 510: "\x55\xaa"})},
		"qcow2 and vdi":       {Head: image(4096, map[int]string{0: qcow2, 64: "\x7f\x10\xda\xbe"})},
		"fixed vhd and iso":   {Head: image(40960, map[int]string{32769: "CD001"}), Tail: image(512, map[int]string{0: "conectix"})},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := format.Detect(s, "")
			require.Equal(t, refusal.AmbiguousFormat, reason(t, err))
		})
	}
}

func TestDetectRefusesPages(t *testing.T) {
	for name, s := range map[string]format.Sample{
		"doctype":     {Head: []byte("<!DOCTYPE html><html>Please log in")},
		"html":        {Head: []byte("\xef\xbb\xbf \r\n<HTML>")},
		"xml error":   {Head: []byte("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>")},
		"json":        {Head: []byte("{\"error\": \"expired\"}")},
		"json list":   {Head: []byte("[\n  {\"a\": 1}]")},
		"claims html": {Head: []byte("Please log in"), ContentType: "text/html"},
		"claims json": {Head: bytes.Repeat([]byte{0}, 4096), ContentType: "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := format.Detect(s, "")
			require.Equal(t, refusal.UnexpectedContent, reason(t, err))
		})
	}
	for name, head := range map[string][]byte{"bracket": []byte("[boot]"), "brace": []byte("{x"), "less": []byte("<<<<")} {
		got, err := format.Detect(format.Sample{Head: head}, "")
		require.NoError(t, err, name)
		require.Equal(t, format.Raw, got)
	}
}

func TestDetectKeepsToWhatIsWanted(t *testing.T) {
	raw := format.Sample{Head: image(4096, nil)}
	iso := format.Sample{Head: image(40960, map[int]string{32769: "CD001"})}
	qcow2 := format.Sample{Head: image(4096, map[int]string{0: "QFI\xfb\x00\x00\x00\x03"})}
	gz := format.Sample{Head: image(4096, map[int]string{0: "\x1f\x8b"})}
	vdi := format.Sample{Head: image(4096, map[int]string{64: "\x7f\x10\xda\xbe"})}
	for name, c := range map[string]struct {
		s    format.Sample
		want format.Format
		fail string
	}{
		"raw is raw":       {raw, format.Raw, ""},
		"iso is iso":       {iso, format.ISO, ""},
		"iso is raw too":   {iso, format.Raw, ""},
		"qcow2 is qcow2":   {qcow2, format.Qcow2, ""},
		"raw is not qcow2": {raw, format.Qcow2, refusal.FormatMismatch},
		"raw is not iso":   {raw, format.ISO, refusal.FormatMismatch},
		// Reading it as raw would hand the guest's host an image that opens other files.
		"qcow2 is not raw": {qcow2, format.Raw, refusal.FormatMismatch},
		"gz is not raw":    {gz, format.Raw, refusal.FormatMismatch},
		"gz is gz":         {gz, format.Gzip, ""},
		"vdi is vdi":       {vdi, format.VDI, ""},
		"vdi is not raw":   {vdi, format.Raw, refusal.FormatMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := format.Detect(c.s, c.want)
			if c.fail == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, c.fail, reason(t, err))
		})
	}
}

func FuzzDetect(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"), []byte("conectix"), "text/html")
	f.Add([]byte("# Disk DescriptorFile"), []byte{}, "")
	f.Add([]byte(strings.Repeat("{", 600)), []byte("koly"), "")
	f.Fuzz(func(t *testing.T, head, tail []byte, kind string) {
		got, err := format.Detect(format.Sample{Head: head, Tail: tail, ContentType: kind}, "")
		if err != nil {
			require.NotEmpty(t, reason(t, err))
			return
		}
		require.Contains(t, []format.Format{
			format.Raw, format.ISO, format.Qcow2, format.VMDK, format.VHD, format.VHDX, format.VDI, format.Gzip, format.XZ, format.Zstd, format.Bzip2,
		}, got)
		require.Equal(t, got == format.Qcow2, bytes.HasPrefix(head, []byte("QFI\xfb")) && !bytes.HasPrefix(head, []byte("QFI\xfb\x00\x00\x00\x01")))
	})
}
