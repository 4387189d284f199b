package importer

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// memory is an image, and a disk, in memory. Its reads end in any order.
type memory struct {
	mu    sync.Mutex
	bytes []byte
	fails int64
}

func (m *memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	for range rand.N(20) {
		runtime.Gosched()
	}
	if m.fails != 0 && off <= m.fails && m.fails < off+int64(len(p)) {
		return 0, errors.New("broken")
	}
	return copy(p, m.bytes[off:]), nil
}

func (m *memory) WriteAt(_ context.Context, p []byte, off int64) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copy(m.bytes[off:], p), nil
}

func randomImage(size int) *memory {
	m := &memory{bytes: make([]byte, size)}
	for i := range m.bytes {
		m.bytes[i] = byte(rand.Uint32())
	}
	return m
}

// cut makes pieces of odd lengths.
func cut(image, disk *memory) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		for next := int64(0); next < int64(len(image.bytes)); {
			off := next
			length := min(1+rand.Int64N(100_000), int64(len(image.bytes))-off)
			place := func(ctx context.Context, data []byte) error {
				_, err := disk.WriteAt(ctx, data, off)
				return err
			}
			if !yield(Piece{Off: off, Len: length, Place: place}, nil) {
				return
			}
			next += length
		}
	}
}

func TestMovePutsAllInPlaceAndTellsInOrder(t *testing.T) {
	image := randomImage(7_000_001)
	disk := &memory{bytes: make([]byte, len(image.bytes))}
	var arrived []byte
	var settled int64
	m := movement{
		source:  image,
		arrived: func(data []byte) { arrived = append(arrived, data...) },
		settled: func(_ context.Context, p Piece) error {
			assert.Equal(t, settled, p.Off)
			settled += p.Len
			disk.mu.Lock()
			defer disk.mu.Unlock()
			assert.True(t, bytes.Equal(image.bytes[:settled], disk.bytes[:settled]), "all before is in place")
			return nil
		},
	}
	require.NoError(t, m.move(t.Context(), cut(image, disk)))
	require.True(t, bytes.Equal(image.bytes, disk.bytes))
	require.True(t, bytes.Equal(image.bytes, arrived))
}

func TestMoveEndsWithTheFirstError(t *testing.T) {
	broken := errors.New("no more")
	nothing := func([]byte) {}
	fine := func(context.Context, Piece) error { return nil }
	for name, start := range map[string]func(image, disk *memory) (movement, iter.Seq2[Piece, error]){
		"source": func(image, disk *memory) (movement, iter.Seq2[Piece, error]) {
			image.fails = 3_000_000
			return movement{source: image, arrived: nothing, settled: fine}, cut(image, disk)
		},
		"image": func(image, disk *memory) (movement, iter.Seq2[Piece, error]) {
			return movement{source: image, arrived: nothing, settled: fine}, func(yield func(Piece, error) bool) {
				for p, err := range cut(image, disk) {
					if p.Off > 3_000_000 {
						yield(Piece{}, broken)
						return
					}
					if !yield(p, err) {
						return
					}
				}
			}
		},
		"target": func(image, disk *memory) (movement, iter.Seq2[Piece, error]) {
			return movement{source: image, arrived: nothing, settled: fine}, func(yield func(Piece, error) bool) {
				for p, err := range cut(image, disk) {
					if p.Off > 3_000_000 {
						p.Place = func(context.Context, []byte) error { return broken }
					}
					if !yield(p, err) {
						return
					}
				}
			}
		},
		"checkpoint": func(image, disk *memory) (movement, iter.Seq2[Piece, error]) {
			return movement{source: image, arrived: nothing, settled: func(_ context.Context, p Piece) error {
				if p.Off > 3_000_000 {
					return broken
				}
				return nil
			}}, cut(image, disk)
		},
	} {
		t.Run(name, func(t *testing.T) {
			image := randomImage(7_000_001)
			m, pieces := start(image, &memory{bytes: make([]byte, len(image.bytes))})
			err := m.move(t.Context(), pieces)
			require.Error(t, err)
			require.NotErrorIs(t, err, context.Canceled, "the cause and not its echo")
		})
	}
}

func TestMoveStopsWhenItIsTold(t *testing.T) {
	image := randomImage(7_000_001)
	ctx, cancel := context.WithCancel(t.Context())
	m := movement{source: image, arrived: func([]byte) {}, settled: func(_ context.Context, p Piece) error {
		if p.Off > 3_000_000 {
			cancel()
		}
		return nil
	}}
	require.ErrorIs(t, m.move(ctx, cut(image, &memory{bytes: make([]byte, len(image.bytes))})), context.Canceled)
}

func TestAfterSkipsWhatIsThere(t *testing.T) {
	image := flatImage{size: 3*pieceSize + 1}
	var left []int64
	for p, err := range after(image.Pieces(t.Context(), 0, false, &memory{}), 2*pieceSize) {
		require.NoError(t, err)
		left = append(left, p.Off, p.Len)
	}
	require.Equal(t, []int64{2 * pieceSize, pieceSize, 3 * pieceSize, 1}, left)
}

func TestWay(t *testing.T) {
	flat, qcow2 := Detected{Format: "raw", Flat: true}, Detected{Format: "qcow2", Mapped: true, Streamable: true}
	stream, vhdx := Detected{Format: "vmdk", Streamable: true}, Detected{Format: "vhdx"}
	for name, c := range map[string]struct {
		image                        Detected
		plain, unranged, gz, toQcow2 way
	}{
		"flat":   {image: flat, plain: byPieces, unranged: inOrder, gz: inOrder, toQcow2: byTool},
		"qcow2":  {image: qcow2, plain: byPieces, unranged: inOrder, gz: inOrder, toQcow2: byTool},
		"stream": {image: stream, plain: inOrder, unranged: inOrder, gz: inOrder, toQcow2: bySpool},
		"vhdx":   {image: vhdx, plain: byTool, unranged: bySpool, gz: bySpool, toQcow2: byTool},
	} {
		t.Run(name, func(t *testing.T) {
			plain := &inspected{source: rangedSource{ranged: true}, image: c.image}
			require.Equal(t, c.plain, plain.way(FormatRaw))
			require.Equal(t, c.toQcow2, plain.way(FormatQcow2))
			unranged := &inspected{source: rangedSource{}, image: c.image}
			require.Equal(t, c.unranged, unranged.way(FormatRaw))
			require.Equal(t, bySpool, unranged.way(FormatQcow2))
			gz := &inspected{source: rangedSource{ranged: true}, image: c.image, compression: "gz"}
			require.Equal(t, c.gz, gz.way(FormatRaw))
			require.Equal(t, bySpool, gz.way(FormatQcow2))
		})
	}
}

// rangedSource answers the one question that the way depends on.
type rangedSource struct {
	Source
	ranged bool
}

func (s rangedSource) Ranged() bool { return s.ranged }
