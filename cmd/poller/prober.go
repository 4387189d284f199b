package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containers/image/v5/pkg/sysregistriesv2"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
	"github.com/gild-project/gild/pkg/credentials"
	"github.com/gild-project/gild/pkg/poller"
	"github.com/gild-project/gild/pkg/registry"
	"github.com/gild-project/gild/pkg/source"
)

const (
	// probeTries and probeTimeout keep a source that is down from holding a place for long: the
	// poller comes again anyway.
	probeTries   = 2
	probeTimeout = 15 * time.Second
)

// prober asks sources the way the importer opens them.
type prober struct {
	// registryConfig is a directory with the registries.conf that importers have: mirrors, and registries
	// without TLS. It need not be there.
	registryConfig string
}

var _ poller.Prober = prober{}

// ProbeHTTP implements poller.Prober.
func (prober) ProbeHTTP(ctx context.Context, r poller.HTTPRequest) (poller.HTTPFound, error) {
	var found source.Found
	err := withFiles(r.Access, func(f files) (err error) {
		o, err := f.sourceOptions()
		if err != nil {
			return err
		}
		if r.Fresh {
			found, err = source.ProbeFresh(ctx, r.URL, o)
			return err
		}
		known := source.Revision{ETag: r.Known.ETag, LastModified: r.Known.LastModified, Length: r.Known.Length}
		found, err = source.Probe(ctx, r.URL, known, o)
		return err
	})
	if err != nil {
		return poller.HTTPFound{}, err
	}
	return poller.HTTPFound{
		NotModified: found.Unchanged,
		Pin:         v1alpha1.Pin{ETag: found.Revision.ETag, LastModified: found.Revision.LastModified, Length: found.Revision.Length},
	}, nil
}

// PublishedChecksum implements poller.Prober.
func (prober) PublishedChecksum(ctx context.Context, r poller.HTTPRequest, file string) (checksum string, err error) {
	err = withFiles(r.Access, func(f files) error {
		o, err := f.sourceOptions()
		if err != nil {
			return err
		}
		checksum, err = source.PublishedChecksum(ctx, r.URL, file, o)
		return err
	})
	return checksum, err
}

// ProbeImage implements poller.Prober.
func (p prober) ProbeImage(ctx context.Context, r poller.ImageRequest) (poller.ImageFound, error) {
	sysregistriesv2.InvalidateCache() // importers read an edited file at once, and so do polls
	var found registry.Probed
	err := withFiles(r.Access, func(f files) error {
		login, err := registry.ReadCredentials(f.secrets)
		if err != nil {
			return err
		}
		found, err = registry.Probe(ctx, r.Reference, registry.Probed{Digest: r.KnownDigest, Index: r.KnownIndex}, registry.Options{
			Platform: r.Platform, Credentials: login, CADir: f.certificates, ConfigDir: p.registryConfig, HeaderTimeout: probeTimeout,
		})
		return err
	})
	return poller.ImageFound{Digest: found.Digest, Index: found.Index}, err
}

// files are the directories that the importer has mounted; empty for none.
type files struct {
	secrets, certificates string
}

// withFiles gives what a source is asked with the form that the importer has it in, for the time of
// one probe. The files are below $TMPDIR, which deploy/ keeps in memory.
func withFiles(a poller.Access, probe func(f files) error) (err error) {
	if len(a.Secret) == 0 && a.CAs == nil {
		return probe(files{})
	}
	dir, err := os.MkdirTemp("", "poll-")
	if err != nil {
		return fmt.Errorf("making a place for the secrets of a source: %w", err)
	}
	defer func() {
		if removed := os.RemoveAll(dir); removed != nil {
			err = errors.Join(err, fmt.Errorf("removing the secrets of a source: %w", removed))
		}
	}()
	f := files{}
	if len(a.Secret) > 0 {
		f.secrets = filepath.Join(dir, "secrets")
		if err := writeSecret(f.secrets, a.Secret); err != nil {
			return err
		}
	}
	if a.CAs != nil {
		f.certificates = filepath.Join(dir, "certificates")
		if err := write(f.certificates, a.CAs); err != nil {
			return err
		}
	}
	return probe(f)
}

// writeSecret writes the files of a Secret. Headers go to a directory of their own.
func writeSecret(dir string, contents map[string][]byte) error {
	logins, headers := map[string][]byte{}, map[string][]byte{}
	for key, content := range contents {
		if n, ok := strings.CutPrefix(key, credentials.HeaderKeys); ok {
			headers[n] = content
			continue
		}
		logins[key] = content
	}
	return errors.Join(write(dir, logins), write(filepath.Join(dir, "headers"), headers))
}

// write writes the files of one directory.
func write(dir string, contents map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing the secrets of a source: %w", err)
	}
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("writing the secrets of a source: %w", err)
		}
	}
	return nil
}

func (f files) sourceOptions() (source.Options, error) {
	login, err := source.ReadCredentials(f.secrets)
	if err != nil {
		return source.Options{}, err
	}
	certificates, err := source.ReadCAs(f.certificates)
	if err != nil {
		return source.Options{}, err
	}
	return source.Options{Credentials: login, CAs: certificates, OpenTries: probeTries, HeaderTimeout: probeTimeout}, nil
}
