package vmdk_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	sector  = 512
	entries = 512
	gdAtEnd = ^uint64(0)
)

var le = binary.LittleEndian

// layout is how an image is made.
type layout struct {
	grain int // sectors, 128 when 0
	// footer puts the tables behind the grains, as tools of VMware do; otherwise they come first.
	footer bool
	// directoryKnown writes the directory's place into the header although it is behind the grains.
	directoryKnown bool
	reverse        bool
	fullLast       bool // the last grain is filled up with zeros
	descriptor     string
}

// image is a streamOptimized image and where its parts are, in bytes.
type image struct {
	data                           []byte
	grains                         []int
	tables                         []int
	directory, footer, end, behind int
}

func descriptorFor(capacity int) string {
	return fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n# Extent description\nRDONLY %d SPARSE \"disk.vmdk\"\n\nddb.adapterType = \"lsilogic\"\n", capacity)
}

func sparseHeader(capacity, grain int, flags uint32, directory uint64, overhead int) []byte {
	h := make([]byte, sector)
	copy(h, "KDMV")
	le.PutUint32(h[4:], 3)
	le.PutUint32(h[8:], flags)
	le.PutUint64(h[12:], uint64(capacity))
	le.PutUint64(h[20:], uint64(grain))
	le.PutUint64(h[28:], 1)
	le.PutUint64(h[36:], 20)
	le.PutUint32(h[44:], entries)
	le.PutUint64(h[56:], directory)
	le.PutUint64(h[64:], uint64(overhead))
	copy(h[73:], "\n \r\n")
	if flags&(1<<16) != 0 {
		h[77] = 1
	}
	return h
}

func mark(kind uint32, sectors int) []byte {
	m := make([]byte, sector)
	le.PutUint64(m, uint64(sectors))
	le.PutUint32(m[12:], kind)
	return m
}

func padded(b []byte) []byte { return append(b, make([]byte, (sector-len(b)%sector)%sector)...) }

// compress is a compressor that is used again: making one takes much longer than a grain.
func compress() func(t testing.TB, p []byte) []byte {
	w := zlib.NewWriter(nil)
	return func(t testing.TB, p []byte) []byte {
		t.Helper()
		var b bytes.Buffer
		w.Reset(&b)
		_, err := w.Write(p)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return b.Bytes()
	}
}

func deflated(t testing.TB, p []byte) []byte {
	t.Helper()
	return compress()(t, p)
}

// build makes a streamOptimized image of a disk, leaving out what is all zero.
func build(t testing.TB, disk []byte, l layout) image {
	t.Helper()
	if l.grain == 0 {
		l.grain = 128
	}
	capacity, grain := len(disk)/sector, l.grain*sector
	if l.descriptor == "" {
		l.descriptor = descriptorFor(capacity)
	}
	grains := (len(disk) + grain - 1) / grain
	tables := (grains + entries - 1) / entries
	directoryBytes := len(padded(make([]byte, tables*4)))
	overhead := 128
	if !l.footer {
		overhead = 21 + directoryBytes/sector + tables*4
	}
	var im image
	deflated := compress()
	im.data = make([]byte, overhead*sector)
	directory := make([]byte, directoryBytes)
	named := make([]byte, tables*entries*4)

	order := make([]int, grains)
	for i := range order {
		order[i] = i
	}
	if l.reverse {
		slices.Reverse(order)
	}
	for _, g := range order {
		data := disk[g*grain : min(len(disk), (g+1)*grain)]
		if bytes.Count(data, []byte{0}) == len(data) {
			continue
		}
		if l.fullLast && len(data) < grain {
			data = append(slices.Clone(data), make([]byte, grain-len(data))...)
		}
		im.grains = append(im.grains, len(im.data))
		le.PutUint32(named[g*4:], uint32(len(im.data)/sector))
		z := deflated(t, data)
		head := le.AppendUint32(le.AppendUint64(nil, uint64(g*l.grain)), uint32(len(z)))
		im.data = append(im.data, padded(append(head, z...))...)
	}
	for i := range tables {
		part := named[i*entries*4 : (i+1)*entries*4]
		at := (21*sector + directoryBytes) + i*len(part)
		if l.footer {
			if bytes.Count(part, []byte{0}) == len(part) {
				continue
			}
			at = len(im.data) + sector
			im.data = append(append(im.data, mark(1, 4)...), part...)
		} else {
			copy(im.data[at:], part)
		}
		im.tables = append(im.tables, at)
		le.PutUint32(directory[i*4:], uint32(at/sector))
	}
	im.directory = 21 * sector
	where := uint64(21)
	if l.footer {
		im.data = append(im.data, mark(2, directoryBytes/sector)...)
		im.directory = len(im.data)
		im.data = append(append(im.data, directory...), mark(3, 1)...)
		im.footer = len(im.data)
		im.data = append(im.data, sparseHeader(capacity, l.grain, 0x30001, uint64(im.directory/sector), overhead)...)
		where = gdAtEnd
		if l.directoryKnown {
			where = uint64(im.directory / sector)
		}
	} else {
		copy(im.data[im.directory:], directory)
	}
	copy(im.data, sparseHeader(capacity, l.grain, 0x30001, where, overhead))
	copy(im.data[sector:21*sector], l.descriptor)
	im.end = len(im.data)
	im.data = append(im.data, mark(0, 0)...)
	im.behind = len(im.data)
	return im
}
