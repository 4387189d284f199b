package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFloor(t *testing.T) {
	stages := map[string]figure{
		fetchOne: {Seconds: 2, CPU: 1}, fetchFour: {Seconds: 1, CPU: 2},
		writeDirect: {Seconds: 1.5, CPU: 0.1}, writeBuffered: {Seconds: 3, CPU: 0.5},
	}
	require.InDelta(t, 1.5, floor(stages, 2).Seconds, 1e-9, "the better fetch and the better write, whichever is slower")
	stages[unpackStage] = figure{Seconds: 2.5, CPU: 2.5}
	require.InDelta(t, 2.5, floor(stages, 2).Seconds, 1e-9)
	stages[hashStage] = figure{Seconds: 1, CPU: 2}
	require.InDelta(t, 3.3, floor(stages, 2).Seconds, 1e-9, "all work on all processors")
}

func TestRatio(t *testing.T) {
	r := ratioOf([]float64{2, 8, 3}, []float64{4, 10, 2})
	require.InDelta(t, 0.8, r.Median, 1e-9)
	require.InDelta(t, 1, r.Minima, 1e-9)
	require.True(t, math.IsNaN(ratioOf(nil, nil).Median))
	require.Equal(t, []float64{1, 2, 9}, fastest([]float64{1, 5}, []float64{3, 2, 9}))
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	b := bucket{rate: 1 << 20}
	require.LessOrEqual(t, b.take(now, bucketSize), time.Duration(0), "a full bucket")
	require.Equal(t, time.Second, b.take(now, 1<<20))
	require.Equal(t, time.Second/2, b.take(now.Add(time.Second), 1<<19))
	require.LessOrEqual(t, b.take(now.Add(time.Hour), bucketSize), time.Duration(0))
	require.Positive(t, b.take(now.Add(time.Hour), 1), "it never holds more than its size")
}

func TestCells(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cells() {
		require.False(t, seen[c.String()], c)
		seen[c.String()] = true
		require.NotEmpty(t, limits(c), c)
		known := map[string]bool{theFloor: true, bestPeer: true, unpackOne: c.kind.unpack != ""}
		for _, who := range contenders(c) {
			known[who.name] = true
		}
		for _, l := range limits(c) {
			require.True(t, known[l.against], "%s is compared with %s, which does not run", c, l.against)
		}
	}
	require.Len(t, seen, 9*4+5*4+3*3)
}

func sample() *report {
	c := cells()[0]
	row := &measured{cell: c, Cell: c.String(), Contenders: map[string][]figure{}, Stages: map[string][]figure{}, Floor: []figure{{Seconds: 2}}}
	for _, who := range contenders(c) {
		row.Contenders[who.name] = []figure{{Seconds: 3, MiB: 200}}
	}
	row.judge()
	return &report{Machine: "two cores & more", Size: "quick", Rows: []*measured{row}}
}

func TestReport(t *testing.T) {
	r := sample()
	require.Equal(t, []string{"slower than its limit against floor", "more memory than its limit"}, r.Rows[0].faults())
	require.Contains(t, r.table(), "floor 1.50 (1.50) <= 1.15 MISSED; memory 200 MiB MISSED")
	require.Contains(t, r.table(), "1 of 1 cells miss a limit")
	r.Rows[0].Contenders[gild] = []figure{{Seconds: 2.2, MiB: 60}}
	r.Rows[0].judge()
	require.Empty(t, r.Rows[0].faults())
	require.Contains(t, r.table(), "0 of 1 cells miss a limit")
}

func TestPicture(t *testing.T) {
	decoder := xml.NewDecoder(strings.NewReader(sample().picture()))
	rects := 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "rect" {
			rects++
		}
	}
	require.Equal(t, 1+3+3, rects)
}
