package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/sysregistriesv2"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	"github.com/gild-project/gild/pkg/source"
)

// remote is an image in a registry.
type remote struct {
	endpoints []*endpoint
	// found tells that the first endpoint has had the manifest.
	found bool
	// tries is after how many faults the last endpoint is given up, 0 for those of pkg/source.
	tries int
}

// mirrorTries is after how many faults the next endpoint is asked.
const mirrorTries = 3

func openRemote(ctx context.Context, rest string, p platform, pin digest.Digest, o Options) (*Image, error) {
	named, err := parseRemote(rest)
	if err != nil {
		return nil, err
	}
	if _, digested := named.(reference.Canonical); pin != "" && !digested {
		if named, err = reference.WithDigest(reference.TrimNamed(named), pin); err != nil {
			return nil, failBy(invalidOptions, "reading the pinned digest", err)
		}
	}
	name := "docker://" + shorten(named.String())
	endpoints, err := findEndpoints(named, o)
	if err != nil {
		return nil, err
	}
	r := &remote{endpoints: endpoints}
	top, err := r.top(ctx, named)
	if err != nil {
		if pin != "" && reasonOf(err) == source.NotFound {
			return nil, failBy(source.SourceChanged, name+" is no longer in the registry, and is pinned", err)
		}
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	c, err := r.choose(ctx, name, top, p)
	if err != nil {
		return nil, err
	}
	if pin != "" && !c.has(pin) {
		return nil, fail(source.SourceChanged, "%s is no longer the pinned image: its manifest is %s, pinned is %s", name, c.manifest.digest, pin)
	}
	if err := verifyRemote(ctx, name, named, r.endpoints, c, o); err != nil {
		return nil, err
	}
	return &Image{name: name, store: r, chosen: c}, nil
}

// findEndpoints reads registries.conf.
func findEndpoints(named reference.Named, o Options) ([]*endpoint, error) {
	registry, err := sysregistriesv2.FindRegistry(systemContext(o), named.Name())
	if err != nil {
		return nil, failBy(invalidOptions, "reading registries.conf", err)
	}
	if registry == nil {
		e, err := newEndpoint(named, named, false, o)
		return []*endpoint{e}, err
	}
	if registry.Blocked {
		return nil, fail(source.SourceRefused, "the registry %s is blocked in registries.conf", shorten(registry.Prefix))
	}
	sources, err := registry.PullSourcesFromReference(named)
	if err != nil {
		return nil, failBy(invalidOptions, "reading registries.conf", err)
	}
	var endpoints []*endpoint
	for _, s := range sources {
		e, err := newEndpoint(named, s.Reference, s.Endpoint.Insecure, o)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, e)
	}
	return endpoints, nil
}

// systemContext tells containers/image where its files are. It takes a missing registries.conf
// for an error when it is named, but not an empty one.
func systemContext(o Options) *types.SystemContext {
	conf := filepath.Join(o.ConfigDir, "registries.conf")
	if _, err := os.Stat(conf); errors.Is(err, os.ErrNotExist) {
		conf = os.DevNull
	}
	return &types.SystemContext{
		SystemRegistriesConfPath:    conf,
		SystemRegistriesConfDirPath: filepath.Join(o.ConfigDir, "registries.conf.d"),
		RegistriesDirPath:           filepath.Join(o.ConfigDir, "registries.d"),
		SignaturePolicyPath:         filepath.Join(o.ConfigDir, "policy.json"),
	}
}

// asked is how a reference is asked for, and the digest that must come when that is one.
func asked(named reference.Named) (ref string, want digest.Digest) {
	switch n := named.(type) {
	case reference.Canonical:
		return n.Digest().String(), n.Digest()
	case reference.Tagged:
		return n.Tag(), ""
	}
	return "", ""
}

// top gets the manifest that the reference itself names, and makes its endpoint the first one.
func (r *remote) top(ctx context.Context, named reference.Named) (document, error) {
	ref, want := asked(named)
	raw, contentType, err := r.manifest(ctx, ref)
	if err != nil {
		return document{}, err
	}
	return newDocument(raw, contentType, want)
}

func (r *remote) choose(ctx context.Context, name string, top document, p platform) (chosen, error) {
	return choose(ctx, name, top, p, func(ctx context.Context, d digest.Digest) ([]byte, string, error) {
		return r.manifest(ctx, d.String())
	})
}

// manifest asks one endpoint after the other. The first that answers is the first one from then
// on: manifests and blobs of one image belong together.
func (r *remote) manifest(ctx context.Context, ref string) ([]byte, string, error) {
	var raw []byte
	var contentType string
	err := r.first(ctx, func(e *endpoint, tries int) (err error) {
		raw, contentType, err = e.manifest(ctx, ref, tries)
		return err
	})
	return raw, contentType, err
}

// first is each for what makes an endpoint the first one.
func (r *remote) first(ctx context.Context, f func(e *endpoint, tries int) error) error {
	n, err := r.each(ctx, f)
	if err != nil {
		return err
	}
	r.endpoints[0], r.endpoints[n] = r.endpoints[n], r.endpoints[0]
	r.found = true
	return nil
}

// blob implements store.
func (r *remote) blob(ctx context.Context, l Layer) (Blob, error) {
	var b Blob
	_, err := r.each(ctx, func(e *endpoint, tries int) (err error) {
		b, err = e.blob(ctx, l, tries)
		return err
	})
	return b, err
}

func (r *remote) close() error { return nil }

// each calls f for one endpoint after the other until it succeeds, and returns which one that
// was. Of the failures it returns the one of the registry itself, unless only another one may
// pass.
func (r *remote) each(ctx context.Context, f func(e *endpoint, tries int) error) (int, error) {
	var failure error
	for n, e := range r.endpoints {
		tries := mirrorTries
		if n == 0 && r.found || n == len(r.endpoints)-1 {
			tries = r.tries
		}
		err := f(e, tries)
		if err == nil {
			return n, nil
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if failure == nil || !source.Transient(reasonOf(failure)) {
			failure = err
		}
		if n < len(r.endpoints)-1 {
			e.o.Notice(fmt.Sprintf("%s: %v; asking the next registry", reasonOf(err), err))
		}
	}
	return 0, failure
}
