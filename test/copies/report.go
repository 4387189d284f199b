package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gild-project/gild/pkg/apis/virtualization/v1alpha1"
)

const (
	// controlLimit is the most seconds that may pass for one claim in all but the storage.
	controlLimit = 3
	// many claims may take so much more than the library does with no work.
	many, libraryFactor = 50, 1.1
	// probe is what may be read of an image before it is fetched, in bytes.
	probe = 1 << 20
)

// report is what was measured.
type report struct {
	Machine string `json:"machine"`
	// Shared tells that copies of volumes share blocks, so that the storage takes no time to copy.
	Shared bool `json:"sharedBlocks"`
	// Data is the bytes of data in the golden image.
	Data     int64     `json:"data"`
	Golden   []golden  `json:"golden"`
	Measured []figures `json:"measured"`
	Faults   []string  `json:"faults"`
}

// golden is how one golden image was made.
type golden struct {
	Class   string  `json:"class"`
	Seconds float64 `json:"seconds"`
	// Bytes were served by the web server; Size is those of the disk.
	Bytes int64 `json:"bytes"`
	Size  int64 `json:"size"`
}

// figures are one measurement.
type figures struct {
	Way    string `json:"way"`
	Claims int    `json:"claims"`
	// Seconds until the last claim was bound, and until the last PVC' was cleared away.
	Seconds float64 `json:"seconds"`
	Cleared float64 `json:"cleared"`
	// Mean seconds of a claim: until PVC' was there, until that was bound to a volume, until the claim was.
	Gate     float64 `json:"gate"`
	Storage  float64 `json:"storage"`
	HandOver float64 `json:"handOver"`
	// Importer is the mean seconds that an importer took.
	Importer float64 `json:"importer"`
	// Bytes are those that the web server served.
	Bytes int64 `json:"bytes"`
	// Writes are requests of the populator, or of the library, that change something, by resource.
	Writes     map[string]int            `json:"writes"`
	Strategies map[v1alpha1.Strategy]int `json:"strategies,omitempty"`
}

func figuresOf(w way, n int, t *timeline) figures {
	begun := func(*moments) time.Time { return t.begun }
	made := func(m *moments) time.Time { return m.made }
	provisioned := func(m *moments) time.Time { return m.provisioned }
	return figures{
		Way: w.name, Claims: n, Seconds: t.last(bound), Cleared: t.last(cleared),
		Gate: t.mean(begun, made), Storage: t.mean(made, provisioned), HandOver: t.mean(provisioned, bound),
	}
}

// perClaim is the writes that one claim causes.
func (f *figures) perClaim() float64 {
	sum := 0
	for _, n := range f.Writes {
		sum += n
	}
	return float64(sum) / float64(f.Claims)
}

// judge finds the limits that were missed.
func (r *report) judge() {
	r.Faults = []string{}
	fault := func(format string, args ...any) { r.Faults = append(r.Faults, fmt.Sprintf(format, args...)) }
	for _, g := range r.Golden {
		if g.Bytes > g.Size+probe {
			fault("the golden image of class %s was downloaded more than once: %d bytes of %d", g.Class, g.Bytes, g.Size)
		}
	}
	alone := map[int]float64{}
	for _, f := range r.Measured {
		if f.Way == libraryWay {
			alone[f.Claims] = f.Seconds
		}
	}
	for _, f := range r.Measured {
		if f.Way != libraryWay && f.Strategies[v1alpha1.Strategy(f.Way)] != f.Claims {
			fault("%s with %d claims: other strategies were used: %v", f.Way, f.Claims, f.Strategies)
		}
		if f.Way != string(v1alpha1.StrategyImport) && f.Bytes > 0 {
			fault("%s with %d claims: %d bytes were downloaded", f.Way, f.Claims, f.Bytes)
		}
		if f.Way != string(v1alpha1.StrategySnapshot) {
			continue // data is moved, which takes its time
		}
		if control := f.Seconds - f.Storage; f.Claims == 1 && control > controlLimit {
			fault("%s with one claim: %.1f s without the storage, %d s are allowed", f.Way, control, controlLimit)
		}
		if limit := libraryFactor * alone[f.Claims]; f.Claims >= many && limit > 0 && f.Seconds > limit {
			fault("%s with %d claims: %.1f s, %.1f s are allowed (the library with no work: %.1f s)", f.Way, f.Claims, f.Seconds, limit, alone[f.Claims])
		}
	}
}

// missed is an error when a limit was missed.
func (r *report) missed() error {
	if len(r.Faults) > 0 {
		return fmt.Errorf("%d limits were missed", len(r.Faults))
	}
	return nil
}

// table has a row for each measurement, and below it what was written and what is wrong.
func (r *report) table() string {
	var text strings.Builder
	storage := "copies of volumes are whole ones"
	if r.Shared {
		storage = "copies of volumes share blocks"
	}
	_, _ = fmt.Fprintf(&text, "%s; a golden image with %d MB of data; %s\n", r.Machine, r.Data/mb, storage)
	for _, g := range r.Golden {
		_, _ = fmt.Fprintf(&text, "golden image on class %s: %.1f s, %.1f MB downloaded\n", g.Class, g.Seconds, float64(g.Bytes)/mb)
	}
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\t\tlast Bound\tall cleared\tmean of a claim, s\t\t\t\tdownloaded\twrites")
	_, _ = fmt.Fprintln(table, "way\tclaims\tafter s\tafter s\tto PVC'\tits volume\tto Bound\timporter\tMB\tper claim")
	for _, f := range r.Measured {
		_, _ = fmt.Fprintf(table, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\n",
			f.Way, f.Claims, f.Seconds, f.Cleared, f.Gate, f.Storage, f.HandOver, f.Importer, float64(f.Bytes)/mb, f.perClaim())
	}
	_ = table.Flush() // a strings.Builder takes all
	for _, f := range r.Measured {
		_, _ = fmt.Fprintf(&text, "writes of %s, %d claims:", f.Way, f.Claims)
		for _, resource := range slices.Sorted(maps.Keys(f.Writes)) {
			_, _ = fmt.Fprintf(&text, " %s %d", resource, f.Writes[resource])
		}
		text.WriteByte('\n')
	}
	for _, fault := range r.Faults {
		_, _ = fmt.Fprintf(&text, "MISSED: %s\n", fault)
	}
	return text.String()
}
