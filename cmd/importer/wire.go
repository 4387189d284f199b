package main

import (
	"context"
	"io"

	"github.com/gild-project/gild/pkg/format"
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

// formats speaks to pkg/format in the importer's plain words.
type formats struct{}

var _ importer.Formats = formats{}

func (formats) HeadSize() int   { return format.HeadSize }
func (formats) TailSize() int64 { return format.TailSize }

func (formats) Detect(head, tail []byte, contentType, want string) (string, error) {
	found, err := format.Detect(format.Sample{Head: head, Tail: tail, ContentType: contentType}, format.Format(want))
	if err == nil && found != format.Raw && found != format.ISO && found != format.Qcow2 {
		err = notYet(found)
	}
	return string(found), err
}

// notYet refuses a format that the importer is not wired for.
type notYet format.Format

func (f notYet) Error() string {
	return "the image is " + string(f) + ", which is not supported yet: convert it to raw, iso or qcow2"
}

func (notYet) Reason() string { return "UnsupportedFormat" }

func (formats) VirtualSize(head []byte) (int64, error) {
	header, err := format.ReadQcow2Header(head)
	return header.VirtualSize, err
}

func (formats) Check(ctx context.Context, image io.ReaderAt, size, maxVirtualSize int64) (int64, int64, error) {
	checked, err := format.CheckQcow2(ctx, image, size, maxVirtualSize)
	return checked.VirtualSize, checked.DataBytes, err
}

func (formats) Convert(ctx context.Context, c importer.Conversion) error {
	return format.QemuImg{}.Convert(ctx, format.Conversion{
		Source: c.Source, SourceFormat: format.Format(c.SourceFormat), Target: c.Target, TargetFormat: format.Format(c.TargetFormat),
		VirtualSize: c.VirtualSize, DataBytes: c.DataBytes, Progress: c.Progress,
	})
}
