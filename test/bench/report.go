package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// report is what was measured.
type report struct {
	Machine string      `json:"machine"`
	Size    string      `json:"size"`
	Rows    []*measured `json:"rows"`
}

// table has a line for each cell: medians of seconds, the least in brackets, and the limits.
func (r *report) table() string {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "%s; disk %s; seconds, median (least)\n", r.Machine, r.Size)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "cell\tgild\tfloor\tbest peer\tCPU s\tMiB\tlimits: ratio of the least times (median of the rounds' ratios) <= limit")
	missed := 0
	for _, row := range r.Rows {
		var limits []string
		for _, v := range row.Limits {
			sign := "ok"
			if !v.Met {
				sign = "MISSED"
			}
			limits = append(limits, fmt.Sprintf("%s %.2f (%.2f) <= %.2f %s", v.Against, v.Ratio.Minima, v.Ratio.Median, v.Limit, sign))
		}
		memory, scratch := row.memory()
		if memory > memoryLimit {
			limits = append(limits, fmt.Sprintf("memory %.0f MiB MISSED", memory))
		}
		if scratch > 0 {
			limits = append(limits, fmt.Sprintf("scratch %d MiB MISSED", scratch>>20))
		}
		if len(row.faults()) > 0 {
			missed++
		}
		var cpu []float64
		for _, f := range row.Contenders[gild] {
			cpu = append(cpu, f.CPU)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.2f\t%.0f\t%s\n", row.Cell, times(row.times(gild)), times(row.times(theFloor)), times(row.times(bestPeer)),
			median(cpu), memory, strings.Join(limits, "; "))
	}
	_ = table.Flush()
	_, _ = fmt.Fprintf(&text, "%d of %d cells miss a limit\n", missed, len(r.Rows))
	return text.String()
}

func times(all []float64) string { return fmt.Sprintf("%.2f (%.2f)", median(all), least(all)) }
