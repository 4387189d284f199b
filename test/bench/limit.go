package main

// memoryLimit is what the importer may use, in MiB.
const memoryLimit = 128

// measured is one row of the table.
type measured struct {
	Cell       string              `json:"cell"`
	Contenders map[string][]figure `json:"contenders"`
	// Stages are those of the floor, Floor what follows from them, one of each for every round.
	Stages map[string][]figure `json:"stages"`
	Floor  []figure            `json:"floor"`
	Limits []verdict           `json:"limits"`

	cell cell
}

// verdict tells whether a limit was met.
type verdict struct {
	Against string  `json:"against"`
	Ratio   ratio   `json:"ratio"`
	Limit   float64 `json:"limit"`
	Met     bool    `json:"met"`
}

// limit is a largest ratio of the importer's time to another's.
type limit struct {
	against string
	most    float64
}

// Others to compare with, beside single contenders.
const (
	theFloor  = "floor"
	bestPeer  = "best peer"
	unpackOne = "tool alone"
)

// limits are what the importer must reach in a cell.
func limits(c cell) []limit {
	if c.kind.layer != "" {
		return []limit{{theFloor, 1.3}, {skopeo, 0.5}}
	}
	if c.link == limited {
		switch {
		case c.kind.unpack != "":
			return []limit{{theFloor, 1.15}, {pipe, 1}}
		case c.kind.name == "vhdx":
			return []limit{{curlConvert, 1 / 2.5}}
		}
		return []limit{{curlConvert, 1 / 4.0}}
	}
	overFloor := 1.15
	if c.checksum {
		overFloor = 1.4
	}
	switch c.kind.name {
	case "raw":
		return []limit{{theFloor, overFloor}}
	case "qcow2":
		return []limit{{theFloor, overFloor}, {bestPeer, 0.5}}
	case "qcow2 zlib", "qcow2 zstd":
		all := []limit{{bestPeer, 0.45}}
		if !c.checksum {
			all = append(all, limit{localConvert, 1})
		}
		return all
	case "raw.gz", "raw.zst":
		return []limit{{theFloor, 1.15}, {pipe, 1}}
	case "raw.xz":
		return []limit{{unpackOne, 1.15}}
	case "vmdk stream":
		return []limit{{curlConvert, 0.5}}
	}
	return []limit{{curlConvert, 1}}
}

// judge fills in the verdicts. A limit is met by the ratio of the best times: a busy neighbour
// makes a time longer and never shorter.
func (m *measured) judge() {
	ours := seconds(m.Contenders[gild])
	m.Limits = nil
	for _, l := range limits(m.cell) {
		r := ratioOf(ours, m.times(l.against))
		m.Limits = append(m.Limits, verdict{Against: l.against, Ratio: r, Limit: l.most, Met: r.Minima <= l.most})
	}
}

// times of a contender or of something to compare with.
func (m *measured) times(of string) []float64 {
	switch of {
	case theFloor:
		return seconds(m.Floor)
	case unpackOne:
		return seconds(m.Stages[unpackStage])
	case bestPeer:
		var peers [][]float64
		for _, c := range contenders(m.cell) {
			if c.name != gild && !c.local {
				peers = append(peers, seconds(m.Contenders[c.name]))
			}
		}
		return fastest(peers...)
	}
	return seconds(m.Contenders[of])
}

// memory is the most that the importer used, in MiB; scratch the most bytes it kept.
func (m *measured) memory() (mib float64, scratch int64) {
	for _, f := range m.Contenders[gild] {
		mib, scratch = max(mib, f.MiB), max(scratch, f.ScratchBytes)
	}
	return mib, scratch
}

// faults lists limits that were not met.
func (m *measured) faults() []string {
	var all []string
	for _, v := range m.Limits {
		if !v.Met {
			all = append(all, "slower than its limit against "+v.Against)
		}
	}
	mib, scratch := m.memory()
	if mib > memoryLimit {
		all = append(all, "more memory than its limit")
	}
	if scratch > 0 {
		all = append(all, "scratch was used")
	}
	return all
}
