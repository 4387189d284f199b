package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"runtime"

	"github.com/gild-project/gild/pkg/format"
	"github.com/gild-project/gild/pkg/format/compress"
	"github.com/gild-project/gild/pkg/format/qcow2"
	"github.com/gild-project/gild/pkg/format/vmdk"
	"github.com/gild-project/gild/pkg/importer"
)

// formats speaks to pkg/format and the packages below it in the importer's plain words.
type formats struct{}

var _ importer.Formats = formats{}

func (formats) HeadSize() int   { return format.HeadSize }
func (formats) TailSize() int64 { return format.TailSize }

func (formats) Detect(head, tail []byte, contentType, want string) (importer.Detected, error) {
	found, err := format.Detect(format.Sample{Head: head, Tail: tail, ContentType: contentType}, format.Format(want))
	d := importer.Detected{Format: string(found)}
	if err != nil {
		return d, err
	}
	switch found {
	case format.Raw, format.ISO:
		d.Flat = true
	case format.Qcow2:
		d.Headed, d.Mapped, d.Streamable = true, true, true
	case format.VMDK:
		header, err := vmdk.ReadHeader(head)
		d.Headed, d.Streamable = true, header.Stream
		return d, err
	case format.Gzip, format.XZ, format.Zstd, format.Bzip2:
		d.Compressed = true
	}
	return d, nil
}

func (formats) ReadHeader(name string, head []byte) (importer.Header, error) {
	switch format.Format(name) {
	case format.Qcow2:
		h, err := qcow2.ReadHeader(head)
		return importer.Header{VirtualSize: h.VirtualSize, Granule: h.Granule()}, err
	case format.VMDK:
		h, err := vmdk.ReadHeader(head)
		return importer.Header{VirtualSize: h.VirtualSize, Granule: h.Granule()}, err
	}
	return importer.Header{}, unknown(name)
}

func (formats) Check(ctx context.Context, name string, image importer.RandomReader, size, maxVirtualSize int64) (virtualSize, dataBytes int64, err error) {
	var checked format.Image
	switch format.Format(name) {
	case format.Qcow2:
		opened, err := qcow2.Open(ctx, image, size, maxVirtualSize)
		if err != nil {
			return 0, 0, err
		}
		return opened.VirtualSize, opened.DataBytes, nil
	case format.VMDK:
		return checkVMDK(ctx, image, size)
	case format.VHD:
		checked, err = format.CheckVHD(ctx, image, size, maxVirtualSize)
	case format.VHDX:
		checked, err = format.CheckVHDX(ctx, image, size, maxVirtualSize)
	case format.VDI:
		checked, err = format.CheckVDI(ctx, image, size, maxVirtualSize)
	default:
		err = unknown(name)
	}
	return checked.VirtualSize, checked.DataBytes, err
}

func checkVMDK(ctx context.Context, image importer.RandomReader, size int64) (virtualSize, dataBytes int64, err error) {
	head := make([]byte, min(size, format.HeadSize))
	if _, err := image.ReadAt(ctx, head, 0); err != nil {
		return 0, 0, err
	}
	header, err := vmdk.ReadHeader(head)
	if err != nil {
		return 0, 0, err
	}
	dataBytes, err = vmdk.Check(ctx, image, size)
	return header.VirtualSize, dataBytes, err
}

func (formats) Footer(ctx context.Context, head, tail []byte, length int64) (int64, error) {
	image, err := format.CheckVHD(ctx, ends{head, tail, length}, length, length)
	return image.VirtualSize, err
}

// ends are both ends of an image of length bytes, all that a fixed VHD is recognised by.
type ends struct {
	head, tail []byte
	length     int64
}

// ReadAt implements format.ReaderAt.
func (e ends) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if start := e.length - int64(len(e.tail)); off >= start {
		return bytes.NewReader(e.tail).ReadAt(p, off-start)
	}
	return bytes.NewReader(e.head).ReadAt(p, off)
}

func (formats) Open(ctx context.Context, name string, image importer.RandomReader, size, maxVirtualSize int64) (importer.Image, error) {
	if format.Format(name) != format.Qcow2 {
		return nil, unknown(name)
	}
	opened, err := qcow2.Open(ctx, image, size, maxVirtualSize)
	return qcow2Image{opened}, err
}

// qcow2Image joins the pieces of an image with the sink they go to.
type qcow2Image struct{ *qcow2.Image }

// Pieces implements importer.Image.
func (q qcow2Image) Pieces(ctx context.Context, slice int, whole bool, sink importer.Sink) iter.Seq2[importer.Piece, error] {
	return func(yield func(importer.Piece, error) bool) {
		for p, err := range q.Image.Pieces(ctx, slice, whole) {
			place := func(ctx context.Context, data []byte) error { return q.Place(ctx, p, data, sink) }
			if !yield(importer.Piece{Off: p.Off, Len: p.Len, Place: place}, err) {
				return
			}
		}
	}
}

func (formats) NewPass(name string, head []byte, maxVirtualSize int64, sink importer.Sink) (importer.Pass, error) {
	workers := runtime.GOMAXPROCS(0)
	switch format.Format(name) {
	case format.Qcow2:
		return qcow2.NewPass(head, maxVirtualSize, workers, sink)
	case format.VMDK:
		return vmdk.NewPass(head, maxVirtualSize, workers, sink)
	}
	return nil, unknown(name)
}

func (formats) Decompress(ctx context.Context, name string, compressed io.Reader) (io.ReadCloser, error) {
	return compress.NewReader(ctx, name, compressed, compress.Options{})
}

func (formats) Convert(ctx context.Context, c importer.Conversion) error {
	conversion := format.Conversion{
		Source: c.SourceFile, SourceFormat: format.Format(c.SourceFormat), Target: c.Target, TargetFormat: format.Format(c.TargetFormat),
		VirtualSize: c.VirtualSize, DataBytes: c.DataBytes, Progress: c.Progress,
	}
	if c.SourceFile == nil {
		conversion.Image, conversion.Size = c.Source, c.Size
	}
	return format.QemuImg{}.Convert(ctx, conversion)
}

func unknown(name string) error { return fmt.Errorf("no reader for the format %q", name) }
