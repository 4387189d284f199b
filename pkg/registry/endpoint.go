package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containers/image/v5/docker/reference"

	"github.com/gild-project/gild/pkg/source"
)

// endpoint is one registry that may have an image: a mirror, or the registry itself.
type endpoint struct {
	// host as it is asked, and the repository on it.
	host, repository string
	// named is the reference as this endpoint has it.
	named    reference.Named
	insecure bool
	// authorization is what it may be sent, empty for nothing.
	authorization string
	o             Options

	mu sync.Mutex
	// plain tells that an insecure endpoint has no TLS; settled that one of both was seen.
	plain, settled bool
	// starts are for source, by the scheme.
	starts map[string]*source.Start
}

func newEndpoint(named, physical reference.Named, insecure bool, o Options) (*endpoint, error) {
	host, err := registryHost(reference.Domain(physical))
	if err != nil {
		return nil, err
	}
	authorization, err := o.Credentials.of(named, physical)
	if err != nil {
		return nil, err
	}
	return &endpoint{
		host: host, repository: reference.Path(physical), named: physical, insecure: insecure, authorization: authorization,
		o: o, starts: map[string]*source.Start{
			"http":  source.NewStart(&url.URL{Scheme: "http", Host: host}),
			"https": source.NewStart(&url.URL{Scheme: "https", Host: host}),
		},
	}, nil
}

func (e *endpoint) scheme() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.plain {
		return "http"
	}
	return "https"
}

// options are what all requests because of this endpoint have in common.
func (e *endpoint) options() source.Options {
	return source.Options{
		CADir: e.o.CADir, Insecure: e.insecure, Connections: e.o.Connections, Notice: e.o.Notice,
		Clock: e.o.Clock, AfterFunc: e.o.AfterFunc, Jitter: e.o.Jitter,
		HeaderTimeout: e.o.HeaderTimeout, StallTimeout: e.o.StallTimeout,
	}
}

// open asks for a manifest or a blob. kind is "manifests" or "blobs".
func (e *endpoint) open(ctx context.Context, kind, ref string, o source.Options) (source.Image, error) {
	return ask(e, kind, ref, o, func(url string, o source.Options) (source.Image, error) { return source.Open(ctx, url, o) })
}

// ask has f ask for a URL of the endpoint, with TLS or without.
func ask[T any](e *endpoint, kind, ref string, o source.Options, f func(url string, o source.Options) (T, error)) (T, error) {
	o.Login = e.login
	by := func(scheme string, o source.Options) (T, error) {
		o.Start = e.starts[scheme]
		return f((&url.URL{Scheme: scheme, Host: e.host, Path: "/v2/" + e.repository + "/" + kind + "/" + ref}).String(), o)
	}
	if !e.insecure || e.isSettled() {
		return by(e.scheme(), o)
	}
	once := o
	once.OpenTries = 1
	answer, err := by("https", once)
	switch reasonOf(err) {
	case source.CertificateError, source.ConnectionFailed, source.Stalled:
	default:
		// Something behind TLS has answered.
		e.settle(false)
		if err == nil || !source.Transient(reasonOf(err)) {
			return answer, err
		}
		return by("https", o)
	}
	e.settle(true)
	answer, plainErr := by("http", o)
	if reasonOf(plainErr) == source.SourceRefused && reasonOf(err) != source.CertificateError {
		// It may speak TLS after all.
		e.unsettle()
		return answer, err
	}
	return answer, plainErr
}

func (e *endpoint) isSettled() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settled
}

func (e *endpoint) settle(plain bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plain, e.settled = plain, true
}

func (e *endpoint) unsettle() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.plain, e.settled = false, false
}

// manifestTries bounds the readings of a manifest that breaks, which are few bytes.
const manifestTries = 4

// manifest gets a manifest by its tag or its digest.
func (e *endpoint) manifest(ctx context.Context, ref string, tries int) ([]byte, string, error) {
	for n := 1; ; n++ {
		raw, contentType, err := e.readManifest(ctx, ref, tries)
		var again interface{ StartOver() bool }
		if err == nil || n == manifestTries || !errors.As(err, &again) || !again.StartOver() {
			return raw, contentType, err
		}
		if err := e.o.Clock.Sleep(ctx, time.Second<<n); err != nil {
			return nil, "", err
		}
	}
}

func (e *endpoint) manifestOptions(tries int) source.Options {
	o := e.options()
	o.Accept, o.OpenTries = strings.Join(accepted(), ", "), tries
	return o
}

// manifestHead gets what a registry says of a manifest without sending it.
func (e *endpoint) manifestHead(ctx context.Context, ref string, tries int) (http.Header, error) {
	return ask(e, "manifests", ref, e.manifestOptions(tries), func(url string, o source.Options) (http.Header, error) { return source.Head(ctx, url, o) })
}

func (e *endpoint) readManifest(ctx context.Context, ref string, tries int) ([]byte, string, error) {
	o := e.manifestOptions(tries)
	image, err := e.open(ctx, "manifests", ref, o)
	if err != nil {
		return nil, "", err
	}
	if image.Size() > maxManifest {
		return nil, "", closeAfter(image, tooLarge())
	}
	raw, err := io.ReadAll(io.LimitReader(reader{ctx, image}, maxManifest+1))
	return raw, image.ContentType(), closed(image, err)
}

// blob opens a blob by its digest.
func (e *endpoint) blob(ctx context.Context, l Layer, tries int) (Blob, error) {
	o := e.options()
	o.Addressed, o.OpenTries = true, tries
	return e.open(ctx, "blobs", l.Digest, o)
}
