package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// row is one line of the table, as printed.
type row struct {
	what, ours, peer, ratio, budget string
	met                             bool
	unjudged                        bool // a figure without a budget
}

// atMost is a row about a time that must stay below a limit.
func atMost(what string, ours, limit, peer time.Duration, peerName string) row {
	return row{what: what, ours: short(ours), peer: short(peer) + "  " + peerName,
		ratio: fmt.Sprintf("%.2f×", float64(ours)/float64(peer)), budget: "≤ " + short(limit), met: ours <= limit}
}

// atLeast is a row about a rate that must reach a part of its peer's.
func atLeast(what string, ours, peer, part float64, budget, peerName string) row {
	return row{what: what, ours: perSecond(ours), peer: perSecond(peer) + "  " + peerName,
		ratio: percent(ours / peer), budget: "≥ " + budget, met: ours >= part*peer}
}

// plain is a row about a figure of any unit that must stay below a limit; a
// limit of zero judges nothing.
func plain(what, format string, ours, limit, peer float64, peerName string) row {
	r := row{what: what, ours: fmt.Sprintf(format, ours), peer: fmt.Sprintf(format, peer) + "  " + peerName,
		ratio: "–", met: ours <= limit, unjudged: limit == 0}
	if peer > 0 {
		r.ratio = fmt.Sprintf("%.2f×", ours/peer)
	}
	if !r.unjudged {
		r.budget = "≤ " + strings.TrimSuffix(fmt.Sprintf(format, limit), ".0")
	}
	return r
}

func (r row) cells() []string {
	mark := "✗"
	if r.unjudged {
		mark = ""
	} else if r.met {
		mark = "✓"
	}
	return []string{r.what, r.ours, r.peer, r.ratio, r.budget, mark}
}

// machine says how much of it there was, and how much others took.
func machine() string {
	text, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(text), " ")
	return fmt.Sprintf("%d cores, load average %s before the run", runtime.NumCPU(), cmp.Or(load, "unknown"))
}

// print writes the rows below their heading, in columns.
func print(w io.Writer, rows []row) {
	lines := [][]string{{"what", "ours", "its peer, same run", "ratio", "budget", ""}}
	missed, judged := 0, 0
	for _, r := range rows {
		lines = append(lines, r.cells())
		if !r.unjudged {
			judged++
			if !r.met {
				missed++
			}
		}
	}
	var widths [6]int
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	fmt.Fprintln(w)
	for _, line := range lines {
		var b strings.Builder
		for i, cell := range line {
			b.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+3))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	fmt.Fprintf(w, "\n%d of %d budgets missed. The rows that need a real bench are not part of this run.\n", missed, judged)
}

func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

func perSecond(n float64) string { return fmt.Sprintf("%.0f/s", n) }

func percent(part float64) string { return fmt.Sprintf("%.1f %%", 100*part) }

// quantile is the value below which a part of all lies (nearest rank); all must
// not be empty.
func quantile[T time.Duration | float64](all []T, q float64) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

func median[T time.Duration | float64](all []T) T { return quantile(all, 0.5) }
