package main

import (
	"cmp"
	"math"
	"slices"
)

// figure is one measurement of one process with its children.
type figure struct {
	// Seconds of the clock, and of processors (with the server's for what fetches).
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpuSeconds"`
	// MiB is the largest resident memory of one of its processes.
	MiB float64 `json:"mib,omitempty"`
	// ScratchBytes and WrittenBytes are what the importer says.
	ScratchBytes int64 `json:"scratchBytes,omitempty"`
	WrittenBytes int64 `json:"writtenBytes,omitempty"`
}

// floor is the time that no importer can beat with these tools: the slowest stage, each done
// by the best tool for it alone, or all their work spread over all processors.
func floor(stages map[string]figure, cores int) figure {
	best := func(names ...string) (figure, bool) {
		var found []figure
		for _, name := range names {
			if f, ok := stages[name]; ok {
				found = append(found, f)
			}
		}
		if len(found) == 0 {
			return figure{}, false
		}
		return slices.MinFunc(found, func(a, b figure) int { return cmp.Compare(a.Seconds, b.Seconds) }), true
	}
	var f figure
	for _, names := range [][]string{{fetchOne, fetchFour}, {writeDirect, writeBuffered}, {unpackStage}, {hashStage}} {
		if s, ok := best(names...); ok {
			f.Seconds = max(f.Seconds, s.Seconds)
			f.CPU += s.CPU
		}
	}
	f.Seconds = max(f.Seconds, f.CPU/float64(cores))
	return f
}

func seconds(figures []figure) []float64 {
	var all []float64
	for _, f := range figures {
		all = append(all, f.Seconds)
	}
	return all
}

// median of some numbers, NaN of none.
func median(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(all))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func least(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	return slices.Min(all)
}

// ratio compares two contenders.
type ratio struct {
	// Median is of the ratios within each round: neighbours that load the machine slow both.
	Median float64 `json:"median"`
	// Minima is the ratio of the best times of both.
	Minima float64 `json:"minima"`
}

func ratioOf(ours, theirs []float64) ratio {
	var rounds []float64
	for i := range min(len(ours), len(theirs)) {
		rounds = append(rounds, ours[i]/theirs[i])
	}
	return ratio{Median: median(rounds), Minima: least(ours) / least(theirs)}
}

// fastest takes the best of several contenders in each round.
func fastest(contenders ...[]float64) []float64 {
	var best []float64
	for _, all := range contenders {
		for i, s := range all {
			if i == len(best) {
				best = append(best, s)
			}
			best[i] = min(best[i], s)
		}
	}
	return best
}
