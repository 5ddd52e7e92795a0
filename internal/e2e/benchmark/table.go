package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// print writes the table. Each row is followed by the line of its peer.
func (r *report) print(w io.Writer) {
	lines := [][5]string{{"", "median (least–most)", "ratio to its peer", "budget"}}
	missed, straddling, judged := 0, 0, 0
	for _, row := range r.Rows {
		lines = append(lines, row.cells(), [5]string{"  " + row.Peer.What, row.Peer.text(row.Unit)})
		if row.Met != nil {
			judged++
			if !*row.Met {
				missed++
			}
			if row.Straddles {
				straddling++
			}
		}
	}
	for _, a := range r.NotMeasured {
		lines = append(lines, [5]string{a.What, "not measured here", "", a.Budget})
	}
	var widths [5]int
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
	fmt.Fprintf(w, "\n%d of %d budgets missed (✗), by the median of %d runs; %d with runs on both sides (~).\n", missed, judged, r.Runs, straddling)
	fmt.Fprintln(w, "The other budgets need a real bench: see docs/PERFORMANCE.md.")
	fmt.Fprintf(w, "%d cores, load average %s before and %s after; %s, Redis %s, %.0f s.\n",
		r.Cores, number(r.Load.Before), number(r.Load.After), r.Go, r.Redis, r.Seconds)
}

func (r row) cells() [5]string {
	line := [5]string{r.What, r.Ours.text(r.Unit), "–"}
	if r.Ratio != nil {
		line[2] = r.Ratio.text("×")
		if r.Peer.Unfinished {
			line[2] = "< " + line[2]
		}
	}
	if r.Budget == nil {
		return line
	}
	unit := "×"
	if r.Budget.Of == "ours" {
		unit = r.Unit
	}
	line[3] = "≤ " + limit(r.Budget.AtMost, unit)
	if r.Budget.AtLeast > 0 {
		line[3] = "≥ " + limit(r.Budget.AtLeast, unit)
	}
	line[4] = "✗"
	if *r.Met {
		line[4] = "✓"
	}
	if r.Straddles {
		line[4] += " ~"
	}
	return line
}

func (p peerFigures) text(unit string) string {
	if p.Unfinished {
		return "> " + p.spread.text(unit)
	}
	return p.spread.text(unit)
}

// text formats the median with its unit, followed by minimum and maximum.
func (s spread) text(unit string) string {
	if unit == unitMillis && s.Median >= 1000 {
		s.Median, s.Min, s.Max, unit = s.Median/1000, s.Min/1000, s.Max/1000, "s"
	}
	return fmt.Sprintf("%s%s (%s–%s)", number(s.Median), behind(unit), number(s.Min), number(s.Max))
}

// limit formats the limit of a budget, rounded to three decimals without trailing zeros.
func limit(v float64, unit string) string {
	if unit == unitMillis && v >= 1000 {
		v, unit = v/1000, "s"
	}
	return strconv.FormatFloat(float64(int(v*1000+0.5))/1000, 'f', -1, 64) + behind(unit)
}

// behind returns the unit as it follows a number: with a space, or without one.
func behind(unit string) string {
	if unit == "×" || unit == unitRate {
		return unit
	}
	return " " + unit
}

// number formats a figure with about three significant digits.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
