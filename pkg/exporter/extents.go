package exporter

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// granule is the smallest hole that is told, in bytes: readers ask for larger parts anyway.
	granule = 1 << 20
	// maxExtents bounds the answer to less than 1 MiB, and the memory for it.
	maxExtents = 16384
)

// Extents says where a disk may have data. All bytes outside of them are zero.
type Extents struct {
	// Size of the disk in bytes.
	Size int64 `json:"size"`
	// Extents are [offset, length] in bytes, in order, inside the disk, and with room between them.
	Extents [][2]int64 `json:"extents"`
}

// extents asks the kernel where the volume has data. Where it cannot tell, all is data.
func (v *volume) extents(ctx context.Context, size int64) (Extents, error) {
	found := spans{granule: granule, size: size}
	for off := int64(0); off < size; {
		if ctx.Err() != nil {
			return Extents{}, context.Cause(ctx)
		}
		data, err := unix.Seek(int(v.file.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			// Block devices and some file systems do not know.
			data = off
		}
		hole := size
		if err == nil {
			if hole, err = unix.Seek(int(v.file.Fd()), data, unix.SEEK_HOLE); err != nil {
				return Extents{}, fmt.Errorf("looking for holes: %w", err)
			}
		}
		off = found.add(data, hole)
	}
	e := Extents{Size: size, Extents: [][2]int64{}}
	for _, s := range found.all {
		e.Extents = append(e.Extents, [2]int64{s.from, s.to - s.from})
	}
	return e, nil
}

// span is a run of data, to is behind its last byte.
type span struct{ from, to int64 }

// spans collects runs of data in order, and drops small holes when there are too many.
type spans struct {
	granule, size int64
	all           []span
}

// add takes the next run of data and returns where to look for the one after it.
func (s *spans) add(from, to int64) int64 {
	s.join(s.rounded(span{from, to}))
	for len(s.all) > maxExtents {
		s.granule *= 2
		all := s.all
		s.all = all[:0]
		for _, one := range all {
			s.join(s.rounded(one))
		}
	}
	return s.all[len(s.all)-1].to
}

func (s *spans) rounded(one span) span {
	from, to := one.from/s.granule*s.granule, one.to
	if rest := to % s.granule; rest > 0 {
		to += min(s.granule-rest, s.size-min(to, s.size))
	}
	return span{from, min(to, s.size)}
}

// join appends a run, or makes the last one longer when there is no room between them.
func (s *spans) join(one span) {
	if last := len(s.all) - 1; last >= 0 && one.from <= s.all[last].to {
		s.all[last].to = max(s.all[last].to, one.to)
		return
	}
	s.all = append(s.all, one)
}
