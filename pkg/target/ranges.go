package target

import (
	"iter"
	"slices"
	"sync"
)

// maxRanges bounds the memory for what was written to a device that is not zeroed: 1 MiB. Then
// the gaps are zeroed before more is written.
const maxRanges = 64 << 10

// extent is a piece of a device, from byte off to before byte end.
type extent struct{ off, end int64 }

// ranges is a set of bytes: sorted extents that neither overlap nor touch.
type ranges struct {
	limit int
	mutex sync.Mutex
	all   []extent
}

func (r *ranges) reset() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.all = nil
}

// add puts the bytes from off to before end into the set.
func (r *ranges) add(off, end int64) {
	if off >= end {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	// Everything from first to before last overlaps or touches the new one.
	first, _ := slices.BinarySearchFunc(r.all, off, func(e extent, off int64) int {
		if e.end < off {
			return -1
		}
		return 1
	})
	last := first
	for last < len(r.all) && r.all[last].off <= end {
		off, end = min(off, r.all[last].off), max(end, r.all[last].end)
		last++
	}
	r.all = slices.Replace(r.all, first, last, extent{off, end})
}

// full tells that the set must not grow any more.
func (r *ranges) full() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return len(r.all) >= r.limit
}

// gaps are the extents below size that are not in the set, in order. Nothing may be added
// meanwhile.
func (r *ranges) gaps(size int64) iter.Seq[extent] {
	return func(yield func(extent) bool) {
		next := int64(0)
		for _, e := range r.all {
			if e.off > next && !yield(extent{next, e.off}) {
				return
			}
			next = e.end
		}
		if next < size {
			yield(extent{next, size})
		}
	}
}
