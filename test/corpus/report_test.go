//go:build corpus

package corpus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// report collects how the rows ended.
type report struct {
	mu   sync.Mutex
	runs []finished
}

type finished struct {
	way   route
	row   row
	done  bool
	ended outcome
	wrong []string
}

// start notes a run; what it returns notes its end. A run without an end was wrong.
func (p *report) start(way route, r row) func(outcome, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.runs)
	p.runs = append(p.runs, finished{way: way, row: r, wrong: []string{"did not end"}})
	return func(o outcome, wrong []string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.runs[n].done, p.runs[n].ended, p.runs[n].wrong = true, o, wrong
	}
}

// String is a table with a line for each route, and the list of what is wrong.
func (p *report) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out, wrong strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "rows\texact\trefused\twrong\tMiB\tslowest\tseconds\t route")
	for _, way := range routes() {
		var rows, exact, bad int
		var seconds time.Duration
		var memory int64
		var slowest outcome
		for _, run := range p.runs {
			if run.way.name != way.name {
				continue
			}
			rows++
			seconds += run.ended.took
			memory = max(memory, run.ended.memory)
			slowest = slices.MaxFunc([]outcome{slowest, run.ended}, func(a, b outcome) int { return cmp.Compare(a.took, b.took) })
			switch {
			case len(run.wrong) > 0:
				bad++
			case run.ended.code == 0:
				exact++
			}
		}
		_, _ = fmt.Fprintf(table, "%d\t%d\t%d\t%d\t%d\t%.1f s\t%.0f\t %s\n",
			rows, exact, rows-exact-bad, bad, memory>>20, slowest.took.Seconds(), seconds.Seconds(), way.name)
	}
	_ = table.Flush()
	for _, run := range p.runs {
		if len(run.wrong) > 0 {
			_, _ = fmt.Fprintf(&wrong, "wrong: %s: %s: expected %s: %s (exit code %d, %s: %s)\n", run.way.name, run.row.file, run.row.expect,
				strings.Join(run.wrong, "; "), run.ended.code, run.ended.result.Reason, run.ended.result.Message)
		}
	}
	return out.String() + wrong.String()
}
