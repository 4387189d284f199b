package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"unicode/utf8"
)

// maxChecksums bounds a file of checksums, in bytes.
const maxChecksums = 1 << 20

// PublishedChecksum reads a small file of checksums at ref, an http or https URL, such as
// SHA256SUMS, *.CHECKSUM or *.sha256, and returns what it has for file: "sha256:" or "sha512:" and
// the digits, sha256 if it has both. file is the last part of the path of the image's URL. The forms
// of sha256sum, of BSD and of openssl are known, and a lone digest without a name. A PGP signature
// around them is skipped and not verified.
//
// The reason is NotFound for a file of checksums that does not name file, and SourceRefused for one
// that is not text, is larger than 1 MiB or contradicts itself. Faults that may pass are met by three
// tries, or Options.OpenTries. The credentials of o go to the host of ref.
func PublishedChecksum(ctx context.Context, ref, file string, o Options) (string, error) {
	b, err := newBrief(ref, o)
	if err != nil {
		return "", err
	}
	defer b.client.close()
	var text []byte
	if err := b.try(ctx, func() error {
		text, err = b.read(ctx)
		return err
	}); err != nil {
		return "", err
	}
	checksum, err := findChecksum(text, file)
	if err == nil {
		return checksum, nil
	}
	var e *Error
	if errors.As(err, &e) {
		return "", fail(e.reason, name(b.client.start.url)+" "+e.message)
	}
	return "", err
}

// read returns the whole body of one answer.
func (b *brief) read(ctx context.Context) ([]byte, error) {
	u := b.client.start.url
	s, r, err := openStream(ctx, b.client, part{}, b.options.StallTimeout)
	if err != nil {
		return nil, err
	}
	defer s.close()
	switch err := checkStatus(u, r, b.options.Clock.Now()); {
	case err != nil:
		return nil, err
	case r.StatusCode != http.StatusOK, encoding(r) != "":
		return nil, fail(SourceRefused, fmt.Sprintf("%s sends a part, or with a Content-Encoding, what was asked for whole and plain", name(u)))
	}
	text, err := io.ReadAll(io.LimitReader(readerFunc(s.read), maxChecksums+1))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, errStalled), errors.Is(err, errSlow):
		return nil, fail(Stalled, fmt.Sprintf("reading %s: too little came for %s", name(u), b.options.StallTimeout))
	case err != nil:
		return nil, failBy(ConnectionFailed, "reading "+name(u), plain(err))
	case len(text) > maxChecksums:
		return nil, fail(SourceRefused, name(u)+" is larger than 1 MiB: it is no file of checksums")
	}
	return text, nil
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// listed is one checksum of a file of checksums.
type listed struct {
	// algorithm is sha256 or sha512, digits are in lower case.
	algorithm, digits string
	// name is as written, empty for none.
	name string
}

// findChecksum returns the checksum of file. A name that is the same counts before one that is the
// same behind its last slash.
func findChecksum(text []byte, file string) (string, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return "", fail(SourceRefused, "is no text: give the URL of a file such as SHA256SUMS")
	}
	all := parseChecksums(string(text))
	for _, matches := range []func(l listed) bool{
		func(l listed) bool { return strings.TrimPrefix(l.name, "./") == file },
		func(l listed) bool { return l.name != "" && path.Base(l.name) == file },
		func(l listed) bool { return l.name == "" && len(all) == 1 },
	} {
		for _, algorithm := range []string{"sha256", "sha512"} {
			found := ""
			for _, l := range all {
				if l.algorithm != algorithm || !matches(l) {
					continue
				}
				if found != "" && found != l.digits {
					return "", fail(SourceRefused, fmt.Sprintf("has more than one %s of %.100q: give a file with one", algorithm, file))
				}
				found = l.digits
			}
			if found != "" {
				return algorithm + ":" + found, nil
			}
		}
	}
	return "", fail(NotFound, fmt.Sprintf("has no sha256 and no sha512 of %.100q: check the name, and the URL of the checksums", file))
}

// parseChecksums reads the lines that hold a checksum.
func parseChecksums(text string) []listed {
	var all []listed
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "-----BEGIN PGP SIGNATURE") {
			break
		}
		if l, ok := parseChecksum(strings.TrimPrefix(line, "- ")); ok {
			all = append(all, l)
		}
	}
	return all
}

// parseChecksum reads one line: "HEX", "HEX  NAME", "HEX *NAME" or "SHA256 (NAME) = HEX".
func parseChecksum(line string) (listed, bool) {
	end := strings.IndexAny(line+" ", " \t")
	digits, rest := line[:end], line[end:]
	if algorithm := algorithmOf(digits); algorithm != "" {
		rest = strings.TrimPrefix(strings.TrimLeft(rest, " \t"), "*")
		if rest == "-" {
			rest = "" // what came out of a pipe
		}
		return listed{algorithm, strings.ToLower(digits), rest}, true
	}
	tag, rest, opened := strings.Cut(line, "(")
	at := strings.LastIndex(rest, ")")
	if !opened || at < 0 {
		return listed{}, false
	}
	digits, equals := strings.CutPrefix(strings.TrimSpace(rest[at+1:]), "=")
	digits = strings.TrimSpace(digits)
	algorithm := map[string]string{"SHA256": "sha256", "SHA2-256": "sha256", "SHA512": "sha512", "SHA2-512": "sha512"}[strings.TrimSpace(tag)]
	if !equals || algorithm == "" || algorithm != algorithmOf(digits) {
		return listed{}, false
	}
	return listed{algorithm, strings.ToLower(digits), rest[:at]}, true
}

// algorithmOf tells by its length which algorithm has made a digest, empty for none that counts.
func algorithmOf(digits string) string {
	if strings.Trim(digits, "0123456789abcdefABCDEF") != "" {
		return ""
	}
	return map[int]string{64: "sha256", 128: "sha512"}[len(digits)]
}
