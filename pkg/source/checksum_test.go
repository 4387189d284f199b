package source

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// a256, b256 and a512 stand for digests.
var (
	a256 = strings.Repeat("a1", 32)
	b256 = strings.Repeat("b2", 32)
	a512 = strings.Repeat("c3", 64)
)

func TestFindChecksum(t *testing.T) {
	for name, c := range map[string]struct{ text, want, reason string }{
		"gnu":                     {a256 + "  disk.img\n" + b256 + "  other.img\n", "sha256:" + a256, ""},
		"gnu, binary":             {b256 + " *other.img\n" + a256 + " *disk.img\n", "sha256:" + a256, ""},
		"gnu, one space":          {a256 + " disk.img", "sha256:" + a256, ""},
		"gnu, tab":                {a256 + "\tdisk.img", "sha256:" + a256, ""},
		"gnu, here":               {a256 + "  ./disk.img\n", "sha256:" + a256, ""},
		"gnu, below":              {a256 + "  images/disk.img\n", "sha256:" + a256, ""},
		"here before below":       {b256 + "  old/disk.img\n" + a256 + "  disk.img\n", "sha256:" + a256, ""},
		"sha512":                  {a512 + "  disk.img\n", "sha512:" + a512, ""},
		"both":                    {a512 + "  disk.img\n" + a256 + "  disk.img\n", "sha256:" + a256, ""},
		"upper case, CRLF, BOM":   {"\xef\xbb\xbf" + strings.ToUpper(a256) + "  disk.img\r\n", "sha256:" + a256, ""},
		"bsd":                     {"# disk.img: 123 bytes\nSHA256 (disk.img) = " + a256 + "\nSHA512 (other.img) = " + a512 + "\n", "sha256:" + a256, ""},
		"bsd, sha512":             {"SHA512 (disk.img) = " + a512, "sha512:" + a512, ""},
		"openssl":                 {"SHA256(disk.img)= " + a256, "sha256:" + a256, ""},
		"openssl 3":               {"SHA2-512(disk.img)= " + a512, "sha512:" + a512, ""},
		"bsd, brackets":           {"SHA256 (a (1).img) = " + b256 + "\nSHA256 (disk.img) = " + a256, "sha256:" + a256, ""},
		"bare":                    {a256 + "\n", "sha256:" + a256, ""},
		"out of a pipe":           {a512 + "  -\n", "sha512:" + a512, ""},
		"twice the same":          {a256 + "  disk.img\n" + a256 + "  disk.img\n", "sha256:" + a256, ""},
		"signed":                  {"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + a256 + " *disk.img\n-----BEGIN PGP SIGNATURE-----\n\n" + b256 + "  disk.img\n-----END PGP SIGNATURE-----\n", "sha256:" + a256, ""},
		"dashed":                  {"-----BEGIN PGP SIGNED MESSAGE-----\n\n- " + a256 + "  disk.img\n", "sha256:" + a256, ""},
		"nothing":                 {"", "", NotFound},
		"another name":            {b256 + "  disk.img.xz\n", "", NotFound},
		"two without a name":      {a256 + "\n" + b256 + "\n", "", NotFound},
		"bare beside a name":      {a256 + "\n" + b256 + "  other.img\n", "", NotFound},
		"md5":                     {strings.Repeat("d4", 16) + "  disk.img\n", "", NotFound},
		"md5 by its tag":          {"MD5 (disk.img) = " + strings.Repeat("d4", 16), "", NotFound},
		"a tag that is not true":  {"SHA256 (disk.img) = " + a512, "", NotFound},
		"a tag without an equals": {"SHA256 (disk.img) " + a256, "", NotFound},
		"a page":                  {"<html><body>Please log in to see disk.img</body></html>", "", NotFound},
		"two digests":             {a256 + "  disk.img\n" + b256 + "  disk.img\n", "", SourceRefused},
		"two below":               {a256 + "  a/disk.img\n" + b256 + "  b/disk.img\n", "", SourceRefused},
		"a picture":               {"\x89PNG\r\n\x1a\n\x00\x00", "", SourceRefused},
		"not UTF-8":               {a256 + "  disk.img\n\xff\xfe", "", SourceRefused},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := findChecksum([]byte(c.text), "disk.img")
			require.Equal(t, c.want, got)
			if c.reason == "" {
				require.NoError(t, err)
				return
			}
			var e *Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.reason, e.Reason())
		})
	}
}

// FuzzChecksums: what is found stands in the text, and is a digest.
func FuzzChecksums(f *testing.F) {
	for _, text := range []string{
		a256 + "  disk.img\n", a512 + " *a/disk.img\r\n", "SHA256 (disk.img) = " + a256, "SHA2-512(disk.img)= " + a512, a256,
		"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- " + a256 + "  disk.img\n-----BEGIN PGP SIGNATURE-----\n", "SHA256 (", "\xef\xbb\xbf",
	} {
		f.Add(text, "disk.img")
	}
	f.Fuzz(func(t *testing.T, text, file string) {
		got, err := findChecksum([]byte(text), file)
		if err != nil {
			require.Empty(t, got)
			return
		}
		algorithm, digits, _ := strings.Cut(got, ":")
		require.Equal(t, map[string]int{"sha256": 64, "sha512": 128}[algorithm], len(digits))
		require.Contains(t, strings.ToLower(text), digits)
		require.Empty(t, strings.Trim(digits, "0123456789abcdef"))
		// The same lines in another order say the same.
		if strings.Contains(text, "-----BEGIN PGP") || strings.Contains(text, "\xef\xbb\xbf") || !strings.HasSuffix(text, "\n") {
			return
		}
		reversed := ""
		for line := range strings.Lines(text) {
			reversed = line + reversed
		}
		again, err := findChecksum([]byte(reversed), file)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}
