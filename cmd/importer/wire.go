package main

import (
	"context"
	"errors"

	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/source"
	"github.com/gild-project/gild/pkg/target"
)

// wire joins the rooms. It is the only place that knows them all.
func wire(o importer.Options) importer.Parts {
	history := &source.History{}
	return importer.Parts{
		OpenSource: func(ctx context.Context, opening importer.Opening) (importer.Source, error) {
			if o.Container() {
				image, err := openContainer(ctx, o, opening)
				if err != nil {
					return nil, err
				}
				return image.open(ctx)
			}
			credentials, err := source.ReadCredentials(o.SecretDir)
			if err != nil {
				return nil, err
			}
			return source.Open(ctx, o.Source, source.Options{
				Credentials: credentials, CADir: o.CADir, Notice: opening.Notice, History: history,
				// Holes have no bytes that a checksum could be of, and only a raw disk is the same without them.
				Extents: o.SourceFormat == importer.FormatRaw && o.Checksum == "" && !o.Digest,
				Pin:     source.Revision{ETag: o.Pin.ETag, LastModified: o.Pin.LastModified, Length: o.Pin.Length},
			})
		},
		Unpack: func(ctx context.Context, opening importer.Opening, written func(n int64)) (importer.Origin, error) {
			image, err := openContainer(ctx, o, opening)
			if err != nil {
				return importer.Origin{}, err
			}
			origin, err := image.unpack(ctx, written)
			return origin, errors.Join(err, image.Close())
		},
		OpenTarget:  func(path string) (importer.Target, error) { return target.Open(path) },
		OpenScratch: func(dir string) (importer.Target, error) { return target.OpenScratch(dir) },
		Formats:     formats{},
		Clock:       source.SystemClock{},
	}
}
