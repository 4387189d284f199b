package main

import (
	"context"

	"github.com/gild-project/gild/pkg/importer"
	"github.com/gild-project/gild/pkg/source"
	"github.com/gild-project/gild/pkg/target"
)

// wire joins the rooms. It is the only place that knows them all.
func wire(o importer.Options) importer.Parts {
	return importer.Parts{
		OpenSource: func(ctx context.Context, notice func(string)) (importer.Source, error) {
			credentials, err := source.ReadCredentials(o.SecretDir)
			if err != nil {
				return nil, err
			}
			cas, err := source.ReadCAs(o.CADir)
			if err != nil {
				return nil, err
			}
			return source.Open(ctx, o.Source, source.Options{
				Credentials: credentials, CAs: cas, Notice: notice,
				Pin: source.Revision{ETag: o.Pin.ETag, LastModified: o.Pin.LastModified, Length: o.Pin.Length},
			})
		},
		OpenTarget:  func(path string) (importer.Target, error) { return target.Open(path) },
		OpenScratch: func(dir string) (importer.Target, error) { return target.OpenScratch(dir) },
		Formats:     formats{},
		Clock:       source.SystemClock{},
	}
}
