package target

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRangesMerge(t *testing.T) {
	for name, c := range map[string]struct{ add, want []extent }{
		"empty":            {[]extent{{5, 5}}, nil},
		"one":              {[]extent{{5, 7}}, []extent{{5, 7}}},
		"apart":            {[]extent{{5, 7}, {1, 2}, {9, 10}}, []extent{{1, 2}, {5, 7}, {9, 10}}},
		"touch before":     {[]extent{{5, 7}, {3, 5}}, []extent{{3, 7}}},
		"touch behind":     {[]extent{{5, 7}, {7, 8}}, []extent{{5, 8}}},
		"fill a gap":       {[]extent{{1, 3}, {5, 7}, {3, 5}}, []extent{{1, 7}}},
		"inside":           {[]extent{{1, 9}, {3, 5}}, []extent{{1, 9}}},
		"around":           {[]extent{{3, 5}, {6, 7}, {1, 9}}, []extent{{1, 9}}},
		"overlap both":     {[]extent{{1, 4}, {6, 9}, {3, 7}}, []extent{{1, 9}}},
		"overlap one side": {[]extent{{1, 4}, {6, 9}, {3, 5}}, []extent{{1, 5}, {6, 9}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := ranges{limit: maxRanges}
			for _, e := range c.add {
				r.add(e.off, e.end)
			}
			require.Equal(t, c.want, r.all)
		})
	}
}

// TestRangesAgainstAModel compares with one bit per byte.
func TestRangesAgainstAModel(t *testing.T) {
	const size = 512
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		r, model := ranges{limit: maxRanges}, [size]bool{}
		for range random.IntN(100) {
			off := random.Int64N(size)
			end := min(off+random.Int64N(16), size)
			r.add(off, end)
			for i := off; i < end; i++ {
				model[i] = true
			}
		}
		got := [size]bool{}
		for i := range got {
			got[i] = true
		}
		last := int64(-1)
		for gap := range r.gaps(size) {
			require.Less(t, gap.off, gap.end)
			require.Greater(t, gap.off, last, "gaps that touch are one gap")
			last = gap.end
			for i := gap.off; i < gap.end; i++ {
				got[i] = false
			}
		}
		require.Equal(t, model, got, "seed %d", seed)
	}
}

func TestRangesOfManyWriters(t *testing.T) {
	const pieces = 4000
	r := ranges{limit: pieces / 2}
	order := rand.New(rand.NewPCG(3, 4)).Perm(pieces)
	var writers sync.WaitGroup
	for part := range slices.Chunk(order, pieces/8) {
		writers.Go(func() {
			for _, n := range part {
				r.add(int64(n)*8, int64(n)*8+8)
			}
		})
	}
	writers.Wait()
	require.Equal(t, []extent{{0, pieces * 8}}, r.all)
	require.False(t, r.full())
	for n := range int64(pieces / 2) {
		require.False(t, r.full())
		r.add((pieces+2*n)*8, (pieces+2*n+1)*8)
	}
	require.True(t, r.full())
	require.Empty(t, slices.Collect((&ranges{all: []extent{{0, 8}}}).gaps(8)))
}

func BenchmarkRangesInRandomOrder(b *testing.B) {
	order := rand.New(rand.NewPCG(3, 4)).Perm(maxRanges)
	for b.Loop() {
		r := ranges{limit: maxRanges}
		for _, n := range order {
			r.add(int64(n)*2, int64(n)*2+1)
		}
	}
}
