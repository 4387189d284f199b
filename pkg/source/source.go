// Package source reads disk images from where they live and survives broken connections.
package source

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// Revision is what tells one state of a source from another. Empty fields are not known.
type Revision struct {
	// ETag is the header as served, with quotes and a W/ prefix if it is weak.
	ETag string
	// LastModified is the header as served. It is compared letter for letter, never with a clock.
	LastModified string
	// Length in bytes, 0 when unknown.
	Length int64
}

// Options says how to reach a source.
type Options struct {
	// Credentials go to the host of the URL and to no other.
	Credentials Credentials
	// CAs are the trusted certificates; nil means the system's.
	CAs *x509.CertPool
	// CADir is a directory for ReadCAs, used in place of CAs. It is read again when a certificate
	// is not trusted: the kubelet may have renewed the files since.
	CADir string
	// Login answers a 401 of the URL's own scheme, host and port; its result is the Authorization
	// that goes there from then on, and nowhere else. It is called once at most for each 401, by
	// one goroutine at a time; a 401 that follows is final. refused is the head of that answer.
	// An error that is an Error is tried again like one of the source itself. nil means never.
	Login func(ctx context.Context, refused http.Header) (authorization string, err error)
	// Accept is the header of that name, empty for none.
	Accept string
	// Pin is the only revision that may be read; its empty fields are not checked.
	Pin Revision
	// Addressed tells that the URL names its bytes by their digest, which the caller checks:
	// parts belong together whatever their ETag is, and so do both sides of a break.
	Addressed bool
	// Extents asks a server that offers it where the image has data, and NextData then leads past the
	// rest, which counts as zero. It is for images that are a disk as it is and have no checksum.
	Extents bool
	// Start is the server that leads to the URL. nil means that of the URL.
	Start *Start
	// Insecure takes any certificate.
	Insecure bool
	// OpenTries is after how many faults Open gives the source up. 0 means 12, and 3 for Probe and
	// the like.
	OpenTries int
	// Connections is how many may be open at once when the server sends parts. 0 means 4.
	Connections int
	// Notice is told, for people, about waits and retries: one call at a time, from any
	// goroutine. May be nil.
	Notice func(message string)
	// HeaderTimeout bounds the connection and the wait for the first byte of an answer. 0 means 30 s.
	HeaderTimeout time.Duration
	// StallTimeout bounds the silence within an answer. An answer that brings less than 4 KiB/s
	// over this time counts as silent too. The time in which nobody reads does not count. 0 means 60 s.
	StallTimeout time.Duration
	// History is what earlier openings of this URL have taught. nil means that this is the first.
	History *History
	// Clock is the time for waits between tries. nil means the real one.
	Clock Clock
	// AfterFunc starts the timers of HeaderTimeout and StallTimeout. nil means time.AfterFunc.
	AfterFunc func(d time.Duration, f func()) Timer
	// Jitter gives numbers in [0,1) that spread the waits. nil means random ones.
	Jitter func() float64
	// Resolver finds addresses. nil means the system's.
	Resolver *net.Resolver
}

func (o Options) withDefaults() Options {
	if o.Connections <= 0 {
		o.Connections = 4
	}
	if o.OpenTries <= 0 {
		o.OpenTries = maxTries
	}
	if o.Notice == nil {
		o.Notice = func(string) {}
	}
	if o.HeaderTimeout == 0 {
		o.HeaderTimeout = 30 * time.Second
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = 60 * time.Second
	}
	if o.History == nil {
		o.History = &History{}
	}
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.AfterFunc == nil {
		o.AfterFunc = func(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	return o
}

// History is what one opening of a URL teaches the next ones. The zero value is ready. Give the
// same one to every Open for a URL, above all after an error with StartOver.
type History struct {
	// forward tells that the server does not keep to the ranges it seems to have.
	forward atomic.Bool
}

// Image is one open source. Read, Rewind and Close are for one goroutine; ReadAt is for many.
type Image interface {
	// Read fills p like an io.Reader. When Ranged it reads ahead over several connections and
	// holds two pieces of 2 MiB for each and one more, 18 MiB with four. It retries and resumes by itself;
	// an error it returns is final for this Image until Rewind. io.EOF comes only after the last
	// byte that the source promised.
	Read(ctx context.Context, p []byte) (int, error)
	// ReadAt fills p with the bytes from off on, as io.ReaderAt does, and does not move Read.
	// Many calls may run at once; no more reach the source than Options.Connections. It retries
	// and resumes like Read, so that its error is final. It fails when not Ranged.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	// Ranged tells that bytes can be read at random and are all of one revision: the server
	// has sent a part with a strong ETag or of an Addressed source, or the source is a file.
	Ranged() bool
	// Rewind lets Read begin again at the first byte of the same revision. When not Ranged it
	// asks for the whole image once more and refuses other validators or another length. A
	// server that gives none of them may send another image unseen: then the caller must
	// compare what came with the first pass, for example by a digest.
	Rewind(ctx context.Context) error
	// Tail returns the last n bytes without moving Read. It makes one try; an error means that
	// the source cannot say.
	Tail(ctx context.Context, n int64) ([]byte, error)
	// Fetched counts the bytes of the image that came from the source until now, those that came
	// twice or were not used with them. It may be called at any time.
	Fetched() int64
	// Size is the length in bytes, -1 when the source does not say.
	Size() int64
	// Framed is false when a cut connection looks like the end of the image.
	Framed() bool
	// Validators are the ETag and the Last-Modified of what was opened, as served.
	Validators() (etag, lastModified string)
	// ContentType is the media type the source claims, in lower case and without parameters.
	ContentType() string
	// Name is the source for people: without query, user and password.
	Name() string
	// Close frees the connections and waits for what reads ahead.
	Close() error
}

// Open connects to the image at ref, an http, https or file URL, and reads its headers. The URL blank: is a
// sector of zeros.
// It retries transient faults with growing waits, about six minutes in all.
func Open(ctx context.Context, ref string, o Options) (Image, error) {
	u, o, err := prepare(ref, o)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "http", "https":
		return openHTTP(ctx, u, o)
	case "file":
		return openFile(u, o)
	case "blank":
		return &blankImage{}, nil
	}
	return nil, fail(SourceRefused, fmt.Sprintf("opening source: the scheme %q is not supported: use http, https or file", u.Scheme))
}

// prepare reads what ref and o name.
func prepare(ref string, o Options) (*url.URL, Options, error) {
	o = o.withDefaults()
	if o.CADir != "" {
		var err error
		if o.CAs, err = ReadCAs(o.CADir); err != nil {
			return nil, o, err
		}
	}
	u, err := url.Parse(ref)
	if err != nil {
		// The error of url.Parse repeats the URL, and its query may be a secret.
		return nil, o, fail(SourceRefused, "opening source: not a URL")
	}
	return u, o, nil
}
