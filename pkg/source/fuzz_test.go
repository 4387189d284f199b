package source

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzExtents: runs that pass are those of the text, and part all of the disk into data and holes.
func FuzzExtents(f *testing.F) {
	for _, text := range []string{
		`{"size":64,"extents":[]}`, `{"size":64,"extents":[[0,64]]}`, `{"size":64,"extents":[[0,8],[8,8],[32,32]]}`,
		`{"size":64,"extents":[[32,8],[0,8]]}`, `{"size":64,"extents":[[0,16],[8,16]]}`, `{"size":64,"extents":[[8,0]]}`,
		`{"size":64,"extents":[[64,1]]}`, `{"size":64,"extents":[[8,9223372036854775807]]}`, `{"size":64,"extents":[[-8,16]]}`,
		`{"size":64,"extents":[[0]]}`, `{"size":64,"extents":[[0,8,16]]}`, `{"size":64,"extents":[null]}`, `{"size":64,"extents":[[null,8]]}`,
		`{"size":64,"extents":[[8,8]],"extents":[[null,8]]}`, `{"size":64,"extents":null}`, `{"size":65,"extents":[]}`, `{"size":64`, "",
	} {
		f.Add([]byte(text), int64(64))
	}
	f.Add([]byte(`{"size":9223372036854775807,"extents":[[9223372036854775806,1]]}`), int64(math.MaxInt64))
	f.Add([]byte(`{"size":0,"extents":[]}`), int64(0))
	f.Fuzz(func(t *testing.T, text []byte, size int64) {
		if size < 0 {
			return // no image has such a size
		}
		data, err := parseExtents(text, size)
		if err != nil {
			require.Empty(t, data)
			return
		}
		var said struct{ Extents [][]*int64 }
		require.NoError(t, json.Unmarshal(text, &said))
		require.Len(t, data, len(said.Extents))
		image, at := &httpImage{data: data}, int64(0)
		image.size = size
		for i, e := range data {
			run := said.Extents[i]
			require.Len(t, run, 2)
			require.NotContains(t, run, (*int64)(nil))
			require.Equal(t, extent{*run[0], *run[0] + *run[1]}, e)
			require.GreaterOrEqual(t, e.from, at)
			require.Greater(t, e.to, e.from)
			require.LessOrEqual(t, e.to, size)
			// Before it is a hole that leads to it, and all of it is data.
			require.Equal(t, e.from, image.NextData(at))
			require.Equal(t, e.from, image.NextData(e.from))
			require.Equal(t, e.to-1, image.NextData(e.to-1))
			at = e.to
		}
		require.Equal(t, size, image.NextData(at))
	})
}
