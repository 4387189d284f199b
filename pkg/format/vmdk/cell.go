package vmdk

import (
	"reflect"

	"github.com/gild-project/gild/pkg/format/inflate"
)

// markerHead is the size of what comes before the data of a grain: its place and its size.
const markerHead = 12

// cell is what one grain needs on its way. Cells are used again and again, so that the memory of
// a Pass does not depend on its image.
type cell struct {
	// source holds the grain as it is in the image, in whole sectors.
	source []byte
	// grain holds what it decodes to, at a multiple of 4096 in memory.
	grain   []byte
	decoder inflate.Decoder
	// size and disk are those of the grain that is being filled.
	size int
	disk int64
}

func newCell(grain int64) *cell {
	const page = 4096
	b := make([]byte, grain+page)
	shift := -reflect.ValueOf(b).Pointer() & (page - 1)
	return &cell{source: make([]byte, 2*grain), grain: b[shift : int64(shift)+grain : int64(shift)+grain]}
}

// maxSize is the most compressed bytes that a grain may have, which is what qemu reads at most.
func (c *cell) maxSize() int { return len(c.source) - markerHead }

// decode fills grain from size compressed bytes and returns how many bytes it got.
func (c *cell) decode() (int, error) {
	n, _, err := c.decoder.Zlib(c.grain, c.source[markerHead:markerHead+c.size])
	return n, err
}
