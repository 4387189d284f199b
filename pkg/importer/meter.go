package importer

// meter counts what comes from the sources of one run.
type meter struct {
	// source counts the bytes of the source that is open, before those of the ones before it.
	source func() int64
	before int64
	// start is the count at which this reading would have been at its first byte.
	start int64
}

func newMeter() meter { return meter{source: func() int64 { return 0 }} }

// came is all that came so far, bytes of repeated parts again.
func (m *meter) came() int64 { return m.before + m.source() }

// open follows another source.
func (m *meter) open(fetched func() int64) {
	m.before, m.source = m.came(), fetched
	m.start = m.before
}

// rewind begins a reading anew.
func (m *meter) rewind() { m.start = m.came() }

// reach says that the reading is at off: the parts before that were not needed did not come.
func (m *meter) reach(off int64) { m.start = min(m.start, m.came()-off) }

// position is how far the reading is in a source of total bytes, if that is known. Retries and
// parts that were looked at twice must not show.
func (m *meter) position(total *int64) int64 {
	position := max(m.came()-m.start, 0)
	if total != nil {
		position = min(position, *total)
	}
	return position
}
