package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// report is what was measured.
type report struct {
	Machine string      `json:"machine"`
	Size    string      `json:"size"`
	Rows    []*measured `json:"rows"`
}

// machine describes where it was measured.
func machine() string {
	model := "unknown processor"
	if cpuinfo, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, after, _ := strings.Cut(string(cpuinfo), "model name")
		line, _, _ := strings.Cut(after, "\n")
		model = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
	}
	var name unix.Utsname
	_ = unix.Uname(&name) // it cannot fail with a valid address; an empty release is no harm
	return fmt.Sprintf("%d cores of %s, Linux %s", runtime.NumCPU(), model, unix.ByteSliceToString(name.Release[:]))
}

// write prints the table, and leaves it in dir with the same as JSON and as a picture.
func (r *report) write(out io.Writer, dir string) error {
	table := r.table()
	if _, err := io.WriteString(out, table); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	all, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("writing the figures: %w", err)
	}
	for name, text := range map[string]string{"report.txt": table, "report.json": string(all) + "\n", "report.svg": r.picture()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	return nil
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
