package qcow2_test

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/qcow2"
)

func TestClusterThatEndsInTheNextPiece(t *testing.T) {
	// A compressed cluster of which the last part is a plain cluster too, in a piece of its own.
	p := plan{bits: 21, size: 8 << 20, words: map[int64]uint64{}}
	packed := stored(noise(2 << 20))
	p.data = make([]byte, 8<<20)
	copy(p.data[3<<19:], packed)
	at := uint64(p.dataAt())
	sectors := uint64(len(packed)+511) / 512
	p.words[0] = 1<<62 | sectors<<49 | (at + 3<<19)
	p.words[1] = at + 2<<20
	p.words[2] = at + 4<<20
	p.words[3] = at
	image := p.build()
	got := readAll(t, bytes.NewReader(image), int64(len(image)))
	pass, _, err := forward(t.Context(), bytes.NewReader(image), int64(len(image)), math.MaxInt64, 1<<20)
	require.NoError(t, err)
	require.NoError(t, got.equal(pass))
	want := append(append(append(noise(2<<20), p.data[2<<20:4<<20]...), p.data[4<<20:6<<20]...), p.data[:2<<20]...)
	for off := 0; off < len(want); off += page {
		require.True(t, bytes.Equal(want[off:off+page], got.pages[int64(off/page)]), "at %d", off)
	}
}

func TestSubclusters(t *testing.T) {
	// Clusters of 64 KiB have subclusters of 2 KiB: half a page of them is written whole.
	p := plan{bits: 16, size: 3<<16 - 2560, ext: true, words: map[int64]uint64{}, masks: map[int64]uint64{}, data: noise(3 << 16)}
	for i := range int64(3) {
		p.words[i] = uint64(p.dataAt() + i<<16)
	}
	p.masks[0] = 0b1011<<32 | 0b0100
	p.masks[1] = math.MaxUint32
	p.masks[2] = 1<<31 | 1<<30 | 1<<3
	image := p.build()
	got := readAll(t, bytes.NewReader(image), int64(len(image)), 1000)
	want := make([]byte, 3<<16)
	copy(want[4096:6144], p.data[4096:])
	copy(want[1<<16:2<<16], p.data[1<<16:])
	copy(want[2<<16+3*2048:][:2048], p.data[2<<16+3*2048:])
	copy(want[2<<16+30*2048:3<<16-2560], p.data[2<<16+30*2048:])
	for i := range 3 {
		require.True(t, bytes.Equal(want[i<<16:][:1<<16], got.pages[int64(i)]), "cluster %d", i)
	}
	require.Equal(t, [][2]int64{{4096, 8192}, {1 << 16, 2 << 16}, {2<<16 + 4096, 2<<16 + 8192}, {3<<16 - 4096, 3<<16 - 2560}}, got.spans)
}

func TestNeighboursAreOneWrite(t *testing.T) {
	for name, bits := range map[string]uint{"pages": 16, "small clusters": 9} {
		t.Run(name, func(t *testing.T) {
			p := plan{bits: bits, size: 1 << 20, words: map[int64]uint64{}, data: noise(1 << 20)}
			for i := range p.size >> bits {
				p.words[i] = uint64(p.dataAt() + i<<bits)
			}
			image := p.build()
			got, err := random(t.Context(), bytes.NewReader(image), int64(len(image)), math.MaxInt64, false)
			require.NoError(t, err)
			require.Equal(t, 1, got.writes)
		})
	}
	// Compressed neighbours come out of order, as several writers leave them.
	p := plan{bits: 16, size: 1 << 20, words: map[int64]uint64{}}
	for i := range p.size >> 16 {
		packed := deflate(bytes.Repeat([]byte{byte(i)}, 1<<16))
		p.words[15-i] = 1<<62 | 1<<54 | uint64(p.dataAt()+int64(len(p.data)))
		p.data = append(p.data, packed...)
	}
	p.data = append(p.data, make([]byte, 1024)...)
	image := p.build()
	got, err := random(t.Context(), bytes.NewReader(image), int64(len(image)), math.MaxInt64, false)
	require.NoError(t, err)
	require.Equal(t, 1, got.writes)
	require.Equal(t, bytes.Repeat([]byte{15}, page), got.pages[0])
}

// addresses is a sink that looks at where the memory of a write begins.
type addresses struct {
	*disk
	mu  sync.Mutex
	odd int
}

func (a *addresses) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if uintptr(unsafe.Pointer(unsafe.SliceData(p)))%4096 != 0 {
		a.mu.Lock()
		a.odd++
		a.mu.Unlock()
	}
	return a.disk.WriteAt(ctx, p, off)
}

func TestWritesSuitDirectIO(t *testing.T) {
	p := plan{bits: 16, size: 16 << 20, words: map[int64]uint64{}}
	packed := deflate(bytes.Repeat([]byte("x"), 1<<16))
	p.data = append(noise(8<<16), append(packed, make([]byte, 512)...)...)
	for i := range int64(8) {
		p.words[i] = uint64(p.dataAt() + i<<16)
		p.words[100+i*3] = 1<<62 | uint64(p.dataAt()+8<<16)
	}
	image := p.build()
	h, err := qcow2.ReadHeader(image)
	require.NoError(t, err)
	sink := &addresses{disk: newDisk(h)}
	pass, err := qcow2.NewPass(image, math.MaxInt64, 2, sink)
	require.NoError(t, err)
	require.NoError(t, pass.Write(t.Context(), image))
	again, err := pass.End(t.Context())
	require.NoError(t, err)
	require.False(t, again)
	require.Equal(t, int64(16<<16), pass.DataBytes())
	require.Zero(t, sink.odd)
	require.Equal(t, 9, sink.writes)
}

func TestErrorsOfTheSinkComeBack(t *testing.T) {
	h, err := qcow2.ReadHeader(tiny())
	require.NoError(t, err)
	broken := newDisk(h)
	broken.err = errors.New("the disk is on fire")
	pass, err := qcow2.NewPass(tiny(), math.MaxInt64, 1, broken)
	require.NoError(t, err)
	require.NoError(t, pass.Write(t.Context(), tiny()))
	_, err = pass.End(t.Context())
	require.ErrorIs(t, err, broken.err)

	im, err := qcow2.Open(t.Context(), source{bytes.NewReader(tiny())}, 7*512, math.MaxInt64)
	require.NoError(t, err)
	for p, err := range im.Pieces(t.Context(), 0, false) {
		require.NoError(t, err)
		require.ErrorIs(t, im.Place(t.Context(), p, tiny()[p.Off:p.Off+p.Len], broken), broken.err)
		require.Error(t, im.Place(t.Context(), p, nil, broken))
	}
}

// stuck is a sink that waits until the context ends.
type stuck struct{ started chan struct{} }

func (s stuck) WriteAt(ctx context.Context, _ []byte, _ int64) (int, error) {
	s.started <- struct{}{}
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

func TestCancel(t *testing.T) {
	p := plan{bits: 16, size: 64 << 20, words: map[int64]uint64{}, data: make([]byte, 64<<20)}
	for i := range p.size >> 16 {
		p.words[i] = uint64(p.dataAt() + i<<16)
	}
	image := p.build()
	ctx, cancel := context.WithCancel(t.Context())
	sink := stuck{make(chan struct{}, 100)}
	pass, err := qcow2.NewPass(image, math.MaxInt64, 2, sink)
	require.NoError(t, err)
	go func() {
		<-sink.started
		<-sink.started
		cancel()
	}()
	require.ErrorIs(t, pass.Write(ctx, image), context.Canceled)
	pass.Close()

	im, err := qcow2.Open(t.Context(), source{bytes.NewReader(image)}, int64(len(image)), math.MaxInt64)
	require.NoError(t, err)
	for _, err := range im.Pieces(ctx, 0, false) {
		require.ErrorIs(t, err, context.Canceled)
	}
	for p, err := range im.Pieces(t.Context(), 0, false) {
		require.NoError(t, err)
		require.ErrorIs(t, im.Place(ctx, p, image[p.Off:p.Off+p.Len], sink), context.Canceled)
		break
	}
}

func TestPlaceRunsManyTimesAtOnce(t *testing.T) {
	p := plan{bits: 16, size: 32 << 20, words: map[int64]uint64{}}
	text := noise(1 << 15)
	for i := range p.size >> 16 {
		level := flate.NoCompression
		if i%4 == 0 {
			level = flate.BestSpeed
		}
		packed := deflateAt(level, append(text, bytes.Repeat([]byte{byte(i)}, 1<<15)...))
		p.words[i] = 1<<62 | uint64(len(packed)+511)/512<<54 | uint64(p.dataAt()+int64(len(p.data)))
		p.data = append(p.data, packed...)
	}
	p.data = append(p.data, make([]byte, 1024)...)
	image := p.build()
	want, err := random(t.Context(), bytes.NewReader(image), int64(len(image)), math.MaxInt64, false)
	require.NoError(t, err)
	im, err := qcow2.Open(t.Context(), source{bytes.NewReader(image)}, int64(len(image)), math.MaxInt64)
	require.NoError(t, err)
	got := newDisk(im.Header)
	var wg sync.WaitGroup
	for p, err := range im.Pieces(t.Context(), 0, true) {
		require.NoError(t, err)
		wg.Go(func() {
			if err := im.Place(t.Context(), p, image[p.Off:p.Off+p.Len], got); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, want.equal(got))
}
