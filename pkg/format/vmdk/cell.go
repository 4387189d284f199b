package vmdk

import (
	"reflect"

	"github.com/gild-project/gild/pkg/format/inflate"
)

const (
	// markerHead is the size of what comes before the data of a grain: its place and its size.
	markerHead = 12
	// together is how much of the disk is decoded and written at once, where grains follow each
	// other: a grain alone is a small write.
	together = 512 << 10
)

// cell is what some grains that follow each other need on their way. Cells are used again and
// again, so that the memory of a Pass does not depend on its image.
type cell struct {
	// source holds the grains as they are in the image, in whole sectors, of which used bytes are taken.
	source []byte
	used   int
	// grains holds what they decode to, at a multiple of 4096 in memory.
	grains  []byte
	decoder inflate.Decoder
	// parts are the grains that are there, disk is the byte of the disk that the first is for.
	parts []part
	disk  int64
}

// part is where a grain's compressed bytes are in a cell.
type part struct{ from, size int }

// newCell makes a cell for grains of so many bytes.
func newCell(grain int64) *cell {
	const page = 4096
	room := max(grain, together/grain*grain)
	b := make([]byte, room+page)
	shift := -reflect.ValueOf(b).Pointer() & (page - 1)
	return &cell{source: make([]byte, room+grain), grains: b[shift : int64(shift)+room : int64(shift)+room]}
}

// fits tells that a grain for the byte disk, of so many bytes as it is in the image, can be added.
func (c *cell) fits(grain, disk int64, total int) bool {
	next := int64(len(c.parts)) * grain
	return c.used+total <= len(c.source) && next+grain <= int64(len(c.grains)) && (next == 0 || disk == c.disk+next)
}

// add takes the grain behind used, of size compressed bytes in total bytes.
func (c *cell) add(disk int64, size, total int) {
	if len(c.parts) == 0 {
		c.disk = disk
	}
	c.parts = append(c.parts, part{c.used + markerHead, size})
	c.used += total
}

// full tells that nothing can be added, not even a mark.
func (c *cell) full(grain int64) bool {
	return c.used+sector > len(c.source) || int64(len(c.parts)+1)*grain > int64(len(c.grains))
}

func (c *cell) reset() { c.parts, c.used = c.parts[:0], 0 }

// decode fills a grain's room from a part and returns how many bytes it got.
func (c *cell) decode(grain []byte, p part) (int, error) {
	n, _, err := c.decoder.Zlib(grain, c.source[p.from:p.from+p.size])
	return n, err
}
