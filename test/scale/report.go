package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is what was measured.
type report struct {
	Machine string    `json:"machine"`
	Crons   int       `json:"crons"`
	Hosts   int       `json:"hosts"`
	PerHost int       `json:"maxPollsPerHost"`
	Phases  []figures `json:"phases"`
}

// table has a column for each phase, and below it what was written and what is wrong.
func (r *report) table() string {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%s; %d crons on %d hosts, at most %d polls of one host at once\n", r.Machine, r.Crons, r.Hosts, r.PerHost)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	row := func(name string, value func(f figures) string) {
		cells := []string{name}
		for _, f := range r.Phases {
			cells = append(cells, value(f))
		}
		_, _ = fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	number := func(n int) string { return fmt.Sprint(n) }
	row("phase", func(f figures) string { return f.Phase })
	row("polls", func(f figures) string { return number(f.Polls) })
	row("of these not modified", func(f figures) string { return number(f.NotModified) })
	row("URLs polled twice", func(f figures) string { return number(f.Twice) })
	row("URLs never polled", func(f figures) string { return number(f.Unpolled) })
	row("polls per second", func(f figures) string { return fmt.Sprintf("%.0f", f.Mean) })
	row("polls in the busiest second", func(f figures) string { return number(f.PerSecond) })
	row("most polls of one host at once", func(f figures) string { return number(f.MostPerHost) })
	row("last poll after s", func(f figures) string { return fmt.Sprintf("%.1f", f.LastPoll) })
	row("last write after s", func(f figures) string { return fmt.Sprintf("%.1f", f.LastWrite) })
	row("writes to crons", func(f figures) string { return number(f.CronWrites) })
	row("most to one cron in 10 min", func(f figures) string { return number(f.MostPerCron) })
	row("memory MiB", func(f figures) string { return fmt.Sprintf("%.0f", f.MiB) })
	row("CPU s since its start", func(f figures) string { return fmt.Sprintf("%.1f", f.CPU) })
	kinds := map[string]bool{}
	for _, f := range r.Phases {
		for kind := range f.Writes {
			kinds[kind] = true
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		row(kind, func(f figures) string { return number(f.Writes[kind]) })
	}
	_ = table.Flush()
	for _, f := range r.Phases {
		for _, fault := range f.Faults {
			_, _ = fmt.Fprintf(&text, "MISSED in %s: %s\n", f.Phase, fault)
		}
	}
	return text.String()
}

// missed is an error when a limit was missed.
func (r *report) missed() error {
	n := 0
	for _, f := range r.Phases {
		n += len(f.Faults)
	}
	if n > 0 {
		return fmt.Errorf("%d limits were missed", n)
	}
	return nil
}
