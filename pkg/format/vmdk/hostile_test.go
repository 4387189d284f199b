package vmdk_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/format/vmdk"
)

// threeTables is a disk of three tables of small grains, with holes and an end within a grain.
func threeTables() []byte {
	disk := make([]byte, 4<<20+1536)
	copy(disk[8192:], bytes.Repeat([]byte("every grain has data, "), 2000)) // the grains 2 to 12
	copy(disk[2<<20:], "in the second table")
	copy(disk[len(disk)-512:], "in the last sector")
	return disk
}

// grain is a grain for a place of the disk, with data that may be anything.
func grain(lba uint64, z []byte) []byte {
	return padded(append(le.AppendUint32(le.AppendUint64(nil, lba), uint32(len(z))), z...))
}

// changed is an image with a part replaced by another of any length.
func changed(b []byte, from, to int, by ...byte) []byte {
	return slices.Concat(b[:from:from], by, b[to:])
}

func TestPassRefusesHostileImages(t *testing.T) {
	disk := threeTables()
	behind := build(t, disk, layout{grain: 8, footer: true})
	ahead := build(t, disk, layout{grain: 8})
	known := build(t, disk, layout{grain: 8, footer: true, directoryKnown: true})
	free := uint64(8 * 100) // nothing is there
	at := func(off int, f func([]byte)) func([]byte) []byte {
		return func(b []byte) []byte { f(b[off:]); return b }
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }
	second := behind.grains[1]
	length := behind.grains[2] - second

	for name, c := range map[string]struct {
		image  image
		edit   func([]byte) []byte
		reason string
	}{
		"grain at a free place":        {behind, at(second, put64(0, free)), refusal.CorruptImage},
		"grain at a free place, ahead": {ahead, at(ahead.grains[1], put64(0, free)), refusal.CorruptImage},
		"grain at another's place":     {behind, at(second, put64(0, le.Uint64(behind.data[behind.grains[0]:]))), refusal.CorruptImage},
		"grain behind the disk":        {behind, at(second, put64(0, 8*1026)), refusal.CorruptImage},
		"grain far behind the disk":    {behind, at(second, put64(0, 1<<63)), refusal.CorruptImage},
		"grain between places":         {behind, at(second, put64(0, 9)), refusal.CorruptImage},
		"grain of 4 GiB":               {behind, at(second, put32(8, 1<<32-1)), refusal.CorruptImage},
		"grain of 8192 bytes":          {behind, at(second, put32(8, 8192)), refusal.CorruptImage},
		"grain cut short":              {behind, at(second, put32(8, 20)), refusal.CorruptImage},
		"grain with a wrong sum":       {behind, at(second+12+int(le.Uint32(behind.data[second+8:]))-4, put32(0, 0)), refusal.CorruptImage},
		"grain that is a bomb": {behind, func(b []byte) []byte {
			return changed(b, second, second+length, grain(24, deflated(t, make([]byte, 4097)))...)
		}, refusal.CorruptImage},
		"grain that is short": {behind, func(b []byte) []byte {
			return changed(b, second, second+length, grain(24, deflated(t, make([]byte, 512)))...)
		}, refusal.CorruptImage},
		"grain lost":            {behind, func(b []byte) []byte { return changed(b, second, second+length) }, refusal.CorruptImage},
		"grain lost, hole left": {behind, func(b []byte) []byte { clear(b[second : second+length]); return b }, refusal.CorruptImage},
		"grain lost, ahead":     {ahead, func(b []byte) []byte { return changed(b, ahead.grains[1], ahead.grains[2]) }, refusal.TruncatedImage},
		"grain added": {behind, func(b []byte) []byte {
			return changed(b, behind.tables[0]-sector, behind.tables[0]-sector, grain(free, deflated(t, disk[:4096]))...)
		}, refusal.CorruptImage},
		"grain added, ahead": {ahead, func(b []byte) []byte {
			return changed(b, ahead.end, ahead.end, grain(free, deflated(t, disk[:4096]))...)
		}, refusal.CorruptImage},
		"entry lost":                    {behind, at(behind.tables[0]+4*3, put32(0, 0)), refusal.CorruptImage},
		"entry lost, ahead":             {ahead, at(ahead.tables[0]+4*3, put32(0, 0)), refusal.CorruptImage},
		"entry moved":                   {behind, at(behind.tables[0]+4*3, func(b []byte) { copy(b[4:], b[:4]); clear(b[:4]) }), refusal.CorruptImage},
		"entries exchanged":             {behind, at(behind.tables[0]+4*3, func(b []byte) { v := le.Uint32(b); copy(b, b[4:8]); le.PutUint32(b[4:], v) }), refusal.CorruptImage},
		"entry added, ahead":            {ahead, at(ahead.tables[0]+4*100, put32(0, uint32(second/sector))), refusal.TruncatedImage},
		"entry added":                   {behind, at(behind.tables[0]+4*100, put32(0, uint32(second/sector))), refusal.CorruptImage},
		"entry of nothing":              {behind, at(behind.tables[0]+4*3, put32(0, 1)), refusal.CorruptImage},
		"table lost":                    {behind, at(behind.directory, put32(0, 0)), refusal.CorruptImage},
		"table lost, ahead":             {ahead, at(ahead.directory, put32(0, 0)), refusal.CorruptImage},
		"tables exchanged":              {behind, at(behind.directory, func(b []byte) { v := le.Uint32(b); copy(b, b[4:8]); le.PutUint32(b[4:], v) }), refusal.CorruptImage},
		"tables exchanged, ahead":       {ahead, at(ahead.directory, func(b []byte) { v := le.Uint32(b); copy(b, b[4:8]); le.PutUint32(b[4:], v) }), refusal.CorruptImage},
		"table twice":                   {behind, at(behind.directory, func(b []byte) { copy(b[4:8], b) }), refusal.CorruptImage},
		"table twice, ahead":            {ahead, at(ahead.directory, func(b []byte) { copy(b[4:8], b) }), refusal.CorruptImage},
		"table nowhere":                 {behind, at(behind.directory, put32(0, 1<<31)), refusal.CorruptImage},
		"table in the header, ahead":    {ahead, at(ahead.directory, put32(0, 1)), refusal.CorruptImage},
		"table among the grains, ahead": {ahead, at(ahead.directory, put32(0, uint32(second/sector))), refusal.CorruptImage},
		"tables overlap, ahead":         {ahead, at(ahead.directory, func(b []byte) { le.PutUint32(b[4:], le.Uint32(b)+3) }), refusal.CorruptImage},
		"too many tables": {behind, func(b []byte) []byte {
			more := slices.Concat(mark(1, 4), make([]byte, 2048))
			return changed(b, behind.tables[0]-sector, behind.tables[0]-sector, more...)
		}, refusal.CorruptImage},
		"table of another size":     {behind, at(behind.tables[0]-sector, put64(0, 5)), refusal.CorruptImage},
		"directory of no size":      {behind, at(behind.directory-sector, put64(0, 0)), refusal.CorruptImage},
		"directory of 2^63 sectors": {behind, at(behind.directory-sector, put64(0, 1<<63)), refusal.CorruptImage},
		"directory twice": {behind, func(b []byte) []byte {
			return changed(b, behind.footer-sector, behind.footer-sector, b[behind.directory-sector:behind.footer-sector]...)
		}, refusal.CorruptImage},
		"directory larger than overhead": {ahead, at(0, put64(12, 1<<30)), refusal.CorruptImage},
		"directory elsewhere":            {known, at(0, put64(56, uint64(known.directory/sector)+1)), refusal.CorruptImage},
		"directory never comes":          {known, func(b []byte) []byte { return changed(b, known.directory-sector, known.end) }, refusal.CorruptImage},
		"grain behind the directory": {behind, func(b []byte) []byte {
			return changed(b, behind.footer-sector, behind.footer-sector, grain(free, deflated(t, disk[:4096]))...)
		}, refusal.CorruptImage},
		"unknown mark":             {behind, at(second, func(b []byte) { copy(b, mark(4, 1)) }), refusal.CorruptImage},
		"mark among grains, ahead": {ahead, at(ahead.grains[1], func(b []byte) { copy(b, mark(1, 4)) }), refusal.UnsupportedFormat},
		"footer of another size":   {behind, at(behind.footer, put64(12, 16)), refusal.CorruptImage},
		"footer of another place":  {behind, at(behind.footer, put64(56, uint64(behind.tables[0]/sector))), refusal.CorruptImage},
		"footer of no kind":        {behind, at(behind.footer, put32(0, 0)), refusal.CorruptImage},
		"footer twice": {behind, func(b []byte) []byte {
			return changed(b, behind.end, behind.end, b[behind.footer-sector:behind.end]...)
		}, refusal.UnsupportedFormat},
		"footer first":            {behind, at(second, func(b []byte) { copy(b, mark(3, 1)) }), refusal.CorruptImage},
		"end of some size":        {behind, at(behind.end, put64(0, 1)), refusal.CorruptImage},
		"no footer":               {behind, func(b []byte) []byte { return changed(b, behind.footer-sector, behind.end) }, refusal.CorruptImage},
		"no end":                  {behind, cut(behind.end), refusal.TruncatedImage},
		"something behind":        {behind, func(b []byte) []byte { return append(b, 0, 0, 1) }, refusal.CorruptImage},
		"something behind, ahead": {ahead, func(b []byte) []byte { return append(b, 0, 0, 1) }, refusal.CorruptImage},
		"another image behind":    {behind, func(b []byte) []byte { return append(b, behind.data...) }, refusal.CorruptImage},
	} {
		t.Run(name, func(t *testing.T) {
			hostile := c.edit(bytes.Clone(c.image.data))
			for _, size := range []int{17, 1 << 20} {
				_, err := read(t, hostile, size)
				requireReason(t, c.reason, err)
			}
		})
	}
}

// TestPassFindsEveryCut cuts images everywhere. Only padding that says nothing may be missing.
func TestPassFindsEveryCut(t *testing.T) {
	disk := threeTables()
	for name, l := range map[string]layout{"tables behind": {grain: 8, footer: true}, "tables ahead": {grain: 8}} {
		t.Run(name, func(t *testing.T) {
			im := build(t, disk, l)
			last := im.grains[len(im.grains)-1]
			whole := last + 12 + int(le.Uint32(im.data[last+8:]))
			for n := 0; n < len(im.data); n++ {
				if (n+1)%512 > 1 && n%601 != 0 && (n < whole-2 || n > whole+2) && n < len(im.data)-20 {
					continue
				}
				got, err := read(t, im.data[:n], len(im.data))
				if n < whole || l.footer {
					require.Error(t, err, "cut at %d of %d", n, len(im.data))
				} else {
					require.NoError(t, err, "cut at %d", n)
					require.True(t, bytes.Equal(disk, got), "cut at %d", n)
				}
			}
		})
	}
}

func TestPassTakesZerosBehindTheEnd(t *testing.T) {
	disk := threeTables()
	for _, l := range []layout{{grain: 8, footer: true}, {grain: 8}} {
		got, err := read(t, append(build(t, disk, l).data, make([]byte, 10001)...), 4093)
		require.NoError(t, err)
		require.True(t, bytes.Equal(disk, got))
	}
}

// TestPassAgreesWithQemu changes bytes at random. What is taken must be what qemu-img reads.
func TestPassAgreesWithQemu(t *testing.T) {
	disk := threeTables()
	r := rand.New(rand.NewPCG(5, 6))
	taken := 0
	for _, im := range []image{build(t, disk, layout{grain: 8, footer: true}), build(t, disk, layout{grain: 8})} {
		parts := slices.Concat(im.grains, im.tables, []int{0, im.directory, im.footer, im.end})
		for range 60 {
			off := min(parts[r.IntN(len(parts))]+r.IntN(80), len(im.data)-1)
			odd := bytes.Clone(im.data)
			odd[off] ^= 1 << r.IntN(8)
			got, err := read(t, odd, 1<<20)
			if err != nil {
				continue
			}
			taken++
			want, err := byQemu(t, odd)
			require.NoError(t, err, "byte %d", off)
			require.True(t, bytes.Equal(want, got), "byte %d", off)
		}
	}
	require.Greater(t, taken, 5)
}

func TestPassReportsTheSink(t *testing.T) {
	im := build(t, randomDisk(4<<20, 9), layout{grain: 8, footer: true})
	h, err := vmdk.ReadHeader(im.data)
	require.NoError(t, err)
	d := newDisk(h)
	d.broken = errors.New("no space left")
	p, err := vmdk.NewPass(im.data, plenty, 2, d)
	require.NoError(t, err)
	defer p.Close()
	err = p.Write(t.Context(), im.data)
	if err == nil {
		_, err = p.End(t.Context())
	}
	require.ErrorIs(t, err, d.broken)
	require.Zero(t, p.DataBytes())
}

// stuck is a sink that ends with its context only.
type stuck struct{}

func (stuck) WriteAt(ctx context.Context, _ []byte, _ int64) (int, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

func TestPassEndsWithItsContext(t *testing.T) {
	im := build(t, randomDisk(4<<20, 9), layout{grain: 8, footer: true})
	p, err := vmdk.NewPass(im.data, plenty, 2, stuck{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	done := make(chan error)
	go func() { done <- p.Write(ctx, im.data) }()
	cancel(stop)
	require.ErrorIs(t, <-done, stop)
	p.Close()
}

func TestNewPassRefuses(t *testing.T) {
	im := build(t, threeTables(), layout{grain: 8})
	_, err := vmdk.NewPass(im.data, 4<<20, 1, nil)
	requireReason(t, refusal.UnsupportedFormat, err)
	_, err = vmdk.NewPass(fromQemu(t, make([]byte, 1<<20), "subformat=monolithicSparse"), plenty, 1, nil)
	requireReason(t, refusal.UnsupportedFormat, err)
}
