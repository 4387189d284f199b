package format_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format"
	"github.com/gild-project/gild/pkg/format/refusal"
)

type checker func(ctx context.Context, image format.ReaderAt, size, maxVirtualSize int64) (format.Image, error)

func checks() map[format.Format]checker {
	return map[format.Format]checker{format.VHD: format.CheckVHD, format.VHDX: format.CheckVHDX, format.VDI: format.CheckVDI}
}

func checkBytes(t *testing.T, f format.Format, b []byte) (format.Image, error) {
	t.Helper()
	return checks()[f](t.Context(), memory{b: b}, int64(len(b)), math.MaxInt64)
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// edit is one change of an image.
type edit struct {
	off  int
	with []byte
}

func edited(b []byte, edits ...edit) []byte {
	b = bytes.Clone(b)
	for _, e := range edits {
		if e.off < 0 {
			e.off += len(b)
		}
		copy(b[e.off:], e.with)
	}
	return b
}

// vhdSum makes the checksum of a footer or header right again.
func vhdSum(b []byte, off, length, at int) {
	part := b[off : off+length]
	copy(part[at:], be32(0))
	var sum uint32
	for _, c := range part {
		sum += uint32(c)
	}
	copy(part[at:], be32(^sum))
}

func vhdSums(b []byte) []byte {
	if bytes.HasPrefix(b, []byte("conectix")) {
		vhdSum(b, 0, 512, 64)
		vhdSum(b, 512, 1024, 36)
	}
	vhdSum(b, len(b)-512, 512, 64)
	return b
}

func vhdxSums(b []byte) []byte {
	for off, length := range map[int]int{64 << 10: 4 << 10, 128 << 10: 4 << 10, 192 << 10: 64 << 10, 256 << 10: 64 << 10} {
		part := b[off : off+length]
		copy(part[4:], le32(0))
		copy(part[4:], le32(crc32.Checksum(part, crc32.MakeTable(crc32.Castagnoli))))
	}
	return b
}

func TestGatesPassWhatQemuWrites(t *testing.T) {
	needQemu(t)
	for name, row := range others() {
		if checks()[row.format] == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			image, want := makeOther(t, row.options)
			found, err := checkBytes(t, row.format, image)
			require.NoError(t, err)
			require.EqualValues(t, len(want), found.VirtualSize)
			require.Positive(t, found.DataBytes)
			require.LessOrEqual(t, found.DataBytes, found.VirtualSize)
			_, err = checks()[row.format](t.Context(), memory{b: image}, int64(len(image)), found.VirtualSize-1)
			require.Equal(t, refusal.TooLarge, reason(t, err), "larger than what is taken")
			// The error of the source is not an error of the image.
			cut := errors.New("cut")
			_, err = checks()[row.format](t.Context(), memory{b: image, err: cut}, int64(len(image)), math.MaxInt64)
			require.Equal(t, cut, err)
		})
	}
}

// TestTruncatedImagesAreRefused cuts images. What passes although it is cut must be the disk.
func TestTruncatedImagesAreRefused(t *testing.T) {
	needQemu(t)
	for name, row := range others() {
		if checks()[row.format] == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			image, want := makeOther(t, row.options)
			found := 0
			for _, length := range cuts(len(image)) {
				_, err := checkBytes(t, row.format, image[:length])
				if err != nil {
					require.Equal(t, refusal.TruncatedImage, reason(t, err), "cut to %d of %d: %v", length, len(image), err)
					found++
					continue
				}
				got, err := served(t, row.format, format.Raw, memory{b: image[:length]}, int64(len(want)))
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got), "cut to %d of %d", length, len(image))
			}
			require.Greater(t, found, 20)
		})
	}
}

// TestSizeOfVHD asks for the size of images of every creator. qemu-img is told which rule holds,
// so it reads exactly that much: its versions disagree about those that they do not know.
func TestSizeOfVHD(t *testing.T) {
	needQemu(t)
	image, want := makeOther(t, []string{"-O", "vpc", "-o", "subformat=fixed"})
	geometry, current := int64(len(want)), int64(8*mib)
	require.Greater(t, geometry, current)
	for creator, size := range map[string]int64{
		"vpc ": geometry, "vs  ": geometry, "qemu": geometry,
		"qem2": current, "win ": current, "d2v ": current, "CTXS": current, "tap\x00": current, "vbox": current, "wa\x00\x00": current,
	} {
		b := vhdSums(edited(image, edit{-512 + 28, []byte(creator)}, edit{-512 + 48, be64(uint64(current))}))
		found, err := checkBytes(t, format.VHD, b)
		require.NoError(t, err, creator)
		require.Equal(t, size, found.VirtualSize, creator)
		got, err := served(t, format.VHD, format.Raw, memory{b: b}, geometry)
		require.NoError(t, err, creator)
		require.True(t, bytes.Equal(want[:size], got[:size]), creator)
		require.True(t, bytes.Equal(make([]byte, geometry-size), got[size:]), creator)

		largest := vhdSums(edited(b, edit{-512 + 56, []byte{0xff, 0xff, 16, 255}}))
		found, err = checkBytes(t, format.VHD, largest)
		require.NoError(t, err, creator)
		require.Equal(t, current, found.VirtualSize, "the largest geometry means none")
	}
}

func TestHostileVHD(t *testing.T) {
	needQemu(t)
	dynamic, _ := makeOther(t, []string{"-O", "vpc", "-o", "subformat=dynamic,force_size=on"})
	fixed, _ := makeOther(t, []string{"-O", "vpc", "-o", "subformat=fixed,force_size=on"})
	both := func(off int, with []byte) []edit { return []edit{{off, with}, {off - 512, with}} }
	header := func(off int, with []byte) []edit { return []edit{{512 + off, with}} }
	table := int(binary.BigEndian.Uint64(dynamic[512+16:]))
	for name, row := range map[string]struct {
		image  []byte
		edits  []edit
		keep   bool
		reason string
	}{
		"differencing":            {dynamic, both(60, be32(4)), false, refusal.UnsafeImage},
		"unknown type":            {dynamic, both(60, be32(1)), false, refusal.UnsupportedFormat},
		"fixed with a copy":       {dynamic, both(60, be32(2)), false, refusal.CorruptImage},
		"dynamic without a copy":  {fixed, []edit{{-512 + 60, be32(3)}, {-512 + 16, be64(512)}}, false, refusal.CorruptImage},
		"unknown version":         {dynamic, both(12, be32(0x20000)), false, refusal.UnsupportedFormat},
		"checksum of footers":     {dynamic, both(64, be32(1)), true, refusal.CorruptImage},
		"checksum of header":      {dynamic, header(36, be32(1)), true, refusal.CorruptImage},
		"checksum of a fixed one": {fixed, []edit{{-512 + 64, be32(1)}}, true, refusal.CorruptImage},
		"copy differs":            {dynamic, []edit{{70, be32(1)}}, false, refusal.CorruptImage},
		"size of fixed":           {fixed, []edit{{-512 + 48, be64(9 * mib)}}, false, refusal.TruncatedImage},
		"size of 1 PiB":           {fixed, []edit{{-512 + 48, be64(1 << 50)}}, false, refusal.UnsupportedFormat},
		"size beyond all":         {fixed, []edit{{-512 + 48, be64(math.MaxUint64)}}, false, refusal.CorruptImage},
		"odd size":                {fixed, []edit{{-512 + 48, be64(8*mib - 1)}}, false, refusal.CorruptImage},
		"no size":                 {fixed, []edit{{-512 + 48, be64(0)}}, false, refusal.EmptySource},
		"header elsewhere":        {dynamic, both(16, be64(1<<40)), false, refusal.TruncatedImage},
		"header beyond all":       {dynamic, both(16, be64(math.MaxUint64)), false, refusal.CorruptImage},
		"header at the limit":     {dynamic, both(16, be64(math.MaxInt64)), false, refusal.CorruptImage},
		"no header":               {dynamic, header(0, []byte("x")), false, refusal.CorruptImage},
		"parent":                  {dynamic, header(40, []byte{1}), false, refusal.UnsafeImage},
		"name of a parent":        {dynamic, header(64, []byte("\x00p")), false, refusal.UnsafeImage},
		"no block size":           {dynamic, header(32, be32(0)), false, refusal.CorruptImage},
		"odd block size":          {dynamic, header(32, be32(1000)), false, refusal.CorruptImage},
		"endless table":           {dynamic, header(28, be32(math.MaxUint32)), false, refusal.CorruptImage},
		"large table":             {dynamic, header(28, be32(16<<20)), false, refusal.TruncatedImage},
		"short table":             {dynamic, header(28, be32(3)), false, refusal.CorruptImage},
		"table elsewhere":         {dynamic, header(16, be64(1<<40)), false, refusal.TruncatedImage},
		"table beyond all":        {dynamic, header(16, be64(math.MaxUint64)), false, refusal.CorruptImage},
		"block behind the end":    {dynamic, []edit{{table, be32(0x7ffffff0)}}, false, refusal.TruncatedImage},
		"block in the footer":     {dynamic, []edit{{table, be32(uint32(len(dynamic)-512-2*mib) / 512)}}, false, refusal.TruncatedImage},
		"block in the tables":     {dynamic, []edit{{table, be32(1)}}, false, refusal.CorruptImage},
		"no footer":               {dynamic[:len(dynamic)-512], nil, true, refusal.TruncatedImage},
		"footer of 511 bytes":     {append(bytes.Clone(fixed[:len(fixed)-512]), fixed[len(fixed)-512:len(fixed)-1]...), nil, true, refusal.TruncatedImage},
		"footer alone":            {fixed[len(fixed)-512:], nil, true, refusal.CorruptImage},
		"nothing":                 {nil, nil, true, refusal.TruncatedImage},
	} {
		t.Run(name, func(t *testing.T) {
			b := edited(row.image, row.edits...)
			if !row.keep {
				b = vhdSums(b)
			}
			_, err := checkBytes(t, format.VHD, b)
			require.Equal(t, row.reason, reason(t, err), err)
		})
	}
}

func TestHostileVDI(t *testing.T) {
	needQemu(t)
	image, _ := makeOther(t, []string{"-O", "vdi"})
	for name, row := range map[string]struct {
		edits  []edit
		reason string
	}{
		"signature":            {[]edit{{64, le32(1)}}, refusal.CorruptImage},
		"version":              {[]edit{{68, le32(1)}}, refusal.UnsupportedFormat},
		"differencing":         {[]edit{{76, le32(4)}}, refusal.UnsafeImage},
		"link":                 {[]edit{{424, []byte{1}}}, refusal.UnsafeImage},
		"parent":               {[]edit{{455, []byte{1}}}, refusal.UnsafeImage},
		"sectors":              {[]edit{{360, le32(4096)}}, refusal.CorruptImage},
		"block size":           {[]edit{{376, le32(512)}}, refusal.CorruptImage},
		"extra in blocks":      {[]edit{{380, le32(512)}}, refusal.CorruptImage},
		"map in the header":    {[]edit{{340, le32(0)}}, refusal.CorruptImage},
		"odd map":              {[]edit{{340, le32(513)}}, refusal.CorruptImage},
		"data in the map":      {[]edit{{344, le32(512)}}, refusal.CorruptImage},
		"blocks":               {[]edit{{384, le32(math.MaxUint32)}}, refusal.CorruptImage},
		"blocks behind":        {[]edit{{384, le32(16 << 20)}, {344, le32(65 << 20)}}, refusal.TruncatedImage},
		"more disk than map":   {[]edit{{368, le64(8*mib + 1)}}, refusal.CorruptImage},
		"disk beyond all":      {[]edit{{368, le64(math.MaxUint64)}}, refusal.CorruptImage},
		"no disk":              {[]edit{{368, le64(0)}}, refusal.EmptySource},
		"block behind the end": {[]edit{{512, le32(0x00ffffff)}}, refusal.TruncatedImage},
		"last block number":    {[]edit{{512, le32(0xfffffffd)}}, refusal.TruncatedImage},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := checkBytes(t, format.VDI, edited(image, row.edits...))
			require.Equal(t, row.reason, reason(t, err), err)
		})
	}
	t.Run("discarded, and an odd size", func(t *testing.T) {
		found, err := checkBytes(t, format.VDI, edited(image, edit{512 + 4, le32(0xfffffffe)}, edit{368, le64(8*mib - 600)}))
		require.NoError(t, err)
		require.EqualValues(t, 8*mib-512, found.VirtualSize)
	})
}

func TestHostileVHDX(t *testing.T) {
	needQemu(t)
	image, want := makeOther(t, []string{"-O", "vhdx", "-o", "subformat=dynamic"})
	const head1, head2, region1, region2 = 64 << 10, 128 << 10, 192 << 10, 256 << 10
	region := func(i, off int) int { return region1 + 16 + 32*i + off }
	twice := func(off int, with []byte) []edit { return []edit{{off, with}, {off + 64<<10, with}} }
	meta := bytes.Index(image, []byte("metadata"))
	item := func(id string) (entry, data int) {
		at := bytes.Index(image[meta:], []byte(id)) + meta
		return at, meta + int(binary.LittleEndian.Uint32(image[at+16:]))
	}
	_, parameters := item("\x37\x67\xa1\xca")
	sizeEntry, size := item("\x24\x42\xa5\x2f")
	_, logical := item("\x1d\xbf\x41\x81")
	page83, _ := item("\xab\x12\xca\xbe")
	bat := int(binary.LittleEndian.Uint64(image[region1+16+16:]))
	for name, row := range map[string]struct {
		edits  []edit
		keep   bool
		reason string
	}{
		"identifier":             {[]edit{{0, []byte("x")}}, false, refusal.CorruptImage},
		"both checksums":         {twice(head1+4, le32(1)), true, refusal.CorruptImage},
		"version of headers":     {twice(head1+66, []byte{2}), false, refusal.CorruptImage},
		"equal sequence":         {append(twice(head1+8, le64(9)), edit{head1 + 20, []byte("x")}), false, refusal.CorruptImage},
		"dirty log":              {twice(head1+48, []byte{1}), false, refusal.CorruptImage},
		"log behind the end":     {twice(head1+72, le64(1<<40)), false, refusal.TruncatedImage},
		"log before the start":   {twice(head1+72, le64(math.MaxUint64)), false, refusal.CorruptImage},
		"regions' checksums":     {twice(region1+4, le32(1)), true, refusal.CorruptImage},
		"first regions checksum": {[]edit{{region1 + 4, le32(1)}}, true, refusal.CorruptImage},
		"regions differ":         {[]edit{{region2 + 100, le32(1)}}, false, refusal.CorruptImage},
		"many regions":           {twice(region1+8, le32(2048)), false, refusal.CorruptImage},
		"no regions":             {twice(region1+8, le32(0)), false, refusal.CorruptImage},
		"region behind the end":  {twice(region(0, 16), le64(1<<40)), false, refusal.TruncatedImage},
		"region beyond all":      {twice(region(0, 16), le64(math.MaxUint64)), false, refusal.CorruptImage},
		"region in the header":   {twice(region(0, 16), le64(512<<10)), false, refusal.CorruptImage},
		"region twice":           {twice(region(1, 0), image[region(0, 0):region(0, 16)]), false, refusal.CorruptImage},
		"unknown region":         {append(twice(region(1, 0), []byte("unknown")), twice(region(1, 28), le32(1))...), false, refusal.UnsupportedFormat},
		"no metadata":            {[]edit{{meta, []byte("x")}}, false, refusal.CorruptImage},
		"many items":             {[]edit{{meta + 10, []byte{0xff, 0xff}}}, false, refusal.CorruptImage},
		"item missing":           {[]edit{{page83, []byte("x")}, {page83 + 24, le32(0)}}, false, refusal.CorruptImage},
		"unknown item":           {[]edit{{page83, []byte("x")}, {page83 + 24, le32(4)}}, false, refusal.UnsupportedFormat},
		"item twice":             {[]edit{{page83, image[sizeEntry : sizeEntry+16]}}, false, refusal.CorruptImage},
		"item elsewhere":         {[]edit{{page83 + 16, le32(math.MaxUint32)}}, false, refusal.CorruptImage},
		"locator of a parent":    {[]edit{{page83, []byte("\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c")}}, false, refusal.UnsafeImage},
		"has a parent":           {[]edit{{parameters + 4, le32(2)}}, false, refusal.UnsafeImage},
		"no block size":          {[]edit{{parameters, le32(0)}}, false, refusal.CorruptImage},
		"odd block size":         {[]edit{{parameters, le32(3 << 20)}}, false, refusal.CorruptImage},
		"huge block size":        {[]edit{{parameters, le32(512 << 20)}}, false, refusal.CorruptImage},
		"sectors of 4096":        {[]edit{{logical, le32(4096)}}, false, refusal.UnsupportedFormat},
		"sectors of 1024":        {[]edit{{logical, le32(1024)}}, false, refusal.CorruptImage},
		"odd disk":               {[]edit{{size, le64(8*mib + 1)}}, false, refusal.CorruptImage},
		"huge disk":              {[]edit{{size, le64(1 << 62)}}, false, refusal.UnsupportedFormat},
		"disk beyond all":        {[]edit{{size, le64(1<<64 - 512)}}, false, refusal.CorruptImage},
		"no disk":                {[]edit{{size, le64(0)}}, false, refusal.EmptySource},
		"more disk than table":   {[]edit{{size, le64(64 << 40)}}, false, refusal.CorruptImage},
		"block behind the end":   {[]edit{{bat, le64(1<<40 | 6)}}, false, refusal.TruncatedImage},
		"block beyond all":       {[]edit{{bat, le64(math.MaxUint64&^7 | 6)}}, false, refusal.CorruptImage},
		"block in the header":    {[]edit{{bat, le64(6)}}, false, refusal.CorruptImage},
		"block in the table":     {[]edit{{bat, le64(uint64(bat) | 6)}}, false, refusal.CorruptImage},
		"part of a parent":       {[]edit{{bat, le64(uint64(bat) | 7)}}, false, refusal.UnsafeImage},
		"unknown state":          {[]edit{{bat, le64(4)}}, false, refusal.CorruptImage},
	} {
		t.Run(name, func(t *testing.T) {
			b := edited(image, row.edits...)
			if !row.keep {
				b = vhdxSums(b)
			}
			_, err := checkBytes(t, format.VHDX, b)
			require.Equal(t, row.reason, reason(t, err), err)
		})
	}
	for name, edits := range map[string][]edit{
		"first header bad":        {{head1 + 4, le32(1)}},
		"second header bad":       {{head2 + 4, le32(1)}},
		"second region table bad": {{region2 + 4, le32(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := edited(image, edits...)
			found, err := checkBytes(t, format.VHDX, b)
			require.NoError(t, err)
			require.EqualValues(t, len(want), found.VirtualSize)
			got, err := served(t, format.VHDX, format.Raw, memory{b: b}, found.VirtualSize)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
		})
	}
}

// TestGatesHoldLittle gives tables as large as their headers may claim.
func TestGatesHoldLittle(t *testing.T) {
	needQemu(t)
	image, _ := makeOther(t, []string{"-O", "vdi"})
	b := append(edited(image[:512], edit{384, le32(16 << 20)}, edit{344, le32(65 << 20)}, edit{368, le64(16 << 40)}), bytes.Repeat([]byte{0xff}, 64*mib)...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	found, err := checkBytes(t, format.VDI, b)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.EqualValues(t, 16<<40, found.VirtualSize)
	require.Zero(t, found.DataBytes)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(mib))
}

// FuzzGates changes images of all kinds. What passes has its data inside the file.
func FuzzGates(f *testing.F) {
	vdi := make([]byte, 1024)
	for off, with := range map[int][]byte{64: le32(0xbeda107f), 68: le32(1<<16 | 1), 76: le32(1), 340: le32(512), 344: le32(1024), 360: le32(512), 368: le64(mib), 376: le32(mib), 384: le32(1), 512: le32(0xffffffff)} {
		copy(vdi[off:], with)
	}
	vhd := make([]byte, 512+1024+512+512)
	for _, off := range []int{0, 2048} {
		copy(vhd[off:], "conectix")
		copy(vhd[off+12:], be32(1<<16))
		copy(vhd[off+16:], be64(512))
		copy(vhd[off+28:], "qem2")
		copy(vhd[off+48:], be64(2*mib))
		copy(vhd[off+60:], be32(3))
	}
	copy(vhd[512:], "cxsparse")
	copy(vhd[512+16:], be64(1536))
	copy(vhd[512+28:], be32(1))
	copy(vhd[512+32:], be32(2*mib))
	copy(vhd[1536:], be32(0xffffffff))
	vhdx := make([]byte, 3*mib)
	copy(vhdx, "vhdxfile")
	for i, off := range []int{64 << 10, 128 << 10} {
		copy(vhdx[off:], "head")
		copy(vhdx[off+8:], le64(uint64(i)))
		copy(vhdx[off+66:], []byte{1, 0})
	}
	for _, off := range []int{192 << 10, 256 << 10} {
		copy(vhdx[off:], "regi")
		copy(vhdx[off+8:], le32(2))
		copy(vhdx[off+16:], "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08")
		copy(vhdx[off+32:], le64(mib))
		copy(vhdx[off+40:], le32(mib))
		copy(vhdx[off+48:], "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e")
		copy(vhdx[off+64:], le64(2*mib))
		copy(vhdx[off+72:], le32(mib))
	}
	copy(vhdx[2*mib:], "metadata")
	copy(vhdx[2*mib+10:], []byte{5, 0})
	for i, item := range []struct {
		id   string
		data []byte
	}{
		{"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b", le64(mib)},
		{"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8", le64(mib)},
		{"\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f", le32(512)},
		{"\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56", le32(512)},
		{"\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46", nil},
	} {
		copy(vhdx[2*mib+32+32*i:], item.id)
		copy(vhdx[2*mib+32+32*i+16:], le32(uint32(64<<10+16*i)))
		copy(vhdx[2*mib+64<<10+16*i:], item.data)
	}
	// The fuzzer changes one part of an image, and the checksums are made right again.
	for _, kind := range []byte{0, 1, 2} {
		f.Add(kind, uint32(0), []byte(nil), uint32(0))
		f.Add(kind, uint32(512), be32(0xffffffff), uint32(100))
	}
	for name, b := range map[format.Format][]byte{format.VDI: vdi, format.VHD: vhdSums(bytes.Clone(vhd)), format.VHDX: vhdxSums(bytes.Clone(vhdx))} {
		_, err := checks()[name](f.Context(), memory{b: b}, int64(len(b)), math.MaxInt64)
		require.NoError(f, err, "a seed that does not pass tests nothing")
	}
	f.Fuzz(func(t *testing.T, kind byte, off uint32, with []byte, cut uint32) {
		name, b := format.VDI, vdi
		switch kind % 3 {
		case 1:
			name, b = format.VHD, vhd
		case 2:
			name, b = format.VHDX, vhdx
		}
		b = bytes.Clone(b)
		copy(b[int(off)%len(b):], with)
		switch name {
		case format.VHD:
			vhdSums(b)
		case format.VHDX:
			vhdxSums(b)
		}
		b = b[:len(b)-min(int(cut), len(b))]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		found, err := checks()[name](t.Context(), memory{b: b}, int64(len(b)), 1<<44)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*mib))
		if err != nil {
			require.NotEmpty(t, reason(t, err))
			return
		}
		require.Positive(t, found.VirtualSize)
		require.LessOrEqual(t, found.DataBytes, found.VirtualSize)
	})
}
