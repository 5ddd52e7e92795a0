package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/itchyny/gojq"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// look says how a command writes to standard output.
type look struct {
	terminal bool // standard output is a terminal: times are shown as "3m ago"
	color    bool
	query    *gojq.Code // --jq
	now      func() time.Time
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// prepare checks the root's flags before a command runs.
func (s *shared) prepare(cmd *cobra.Command) error {
	if s.output != "table" && s.output != "json" {
		return usage("--output must be table or json, not %q.", s.output)
	}
	s.now, s.terminal = time.Now, isTerminal(cmd.OutOrStdout())
	s.color = s.terminal && colored(os.Getenv)
	if s.jq == "" {
		return nil
	}
	query, err := gojq.Parse(s.jq)
	if err == nil {
		s.query, err = gojq.Compile(query)
	}
	if err != nil {
		return usage("--jq is not an expression of jq: %v", err)
	}
	return nil
}

// colored reports whether the environment allows colors. Any value of NO_COLOR but the
// empty one forbids them (https://no-color.org).
func colored(env func(string) string) bool { return env("NO_COLOR") == "" && env("TERM") != "dumb" }

func (s *shared) asJSON() bool { return s.output == "json" || s.query != nil }

// json writes a record as JSON, or the results of --jq, one in each line: strings without
// quotes, anything else as JSON.
func (s *shared) json(ctx context.Context, w io.Writer, record any) error {
	if s.query == nil {
		return printJSON(w, record)
	}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	var input any
	if err := json.Unmarshal(text, &input); err != nil {
		return err
	}
	results := s.query.RunWithContext(ctx, input)
	for {
		v, ok := results.Next()
		if !ok {
			return nil
		}
		if err, failed := v.(error); failed {
			return usage("--jq: %v", err)
		}
		line, isText := v.(string)
		if !isText {
			out, err := gojq.Marshal(v)
			if err != nil {
				return err
			}
			line = string(out)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
}

// print writes a record as JSON, or as a table of rows.
func (s *shared) print(cmd *cobra.Command, record any, rows [][]string) error {
	if s.asJSON() {
		return s.json(cmd.Context(), cmd.OutOrStdout(), record)
	}
	_, err := io.WriteString(cmd.OutOrStdout(), s.table(rows))
	return err
}

// list is print for rows with a heading. If there are no rows it prints the sentence none.
func (s *shared) list(cmd *cobra.Command, record any, none string, rows [][]string) error {
	if len(rows) == 1 && !s.asJSON() {
		_, err := fmt.Fprintln(cmd.ErrOrStderr(), none)
		return err
	}
	return s.print(cmd, record, rows)
}

// table writes cells in columns, two spaces apart. The codes of colors do not count for the
// width.
func (s *shared) table(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		pad := 0
		for i, cell := range row {
			if cell != "" {
				b.WriteString(strings.Repeat(" ", pad) + s.paint(cell))
				pad = 0
			}
			pad += widths[i] - utf8.RuneCountInString(cell) + 2
		}
		b.WriteByte('\n')
	}
	return b.String()
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint colors a state: green for good, yellow for in between, red for bad.
func (s *shared) paint(cell string) string {
	color := ""
	switch cell {
	case "succeeded", "active", "open":
		color = green
	case "failed", "rollback_failed", "tripped":
		color = red
	case "waiting", "rolling_back", "canceled", "suspended", "deleting", "paused", "drained":
		color = yellow
	}
	if !s.color || color == "" {
		return cell
	}
	return "\x1b[" + color + "m" + cell + "\x1b[0m"
}

func printJSON(w io.Writer, record any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(record)
}

// local formats a time in this machine's zone, with the offset; empty for no time.
func local(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05 -07:00")
}

// when formats a time for a column: on a terminal as how long ago it was, else as local.
func (s *shared) when(t *time.Time) string {
	if !s.terminal || t == nil || t.IsZero() {
		return local(t)
	}
	d := s.now().Sub(*t)
	switch text := about(d.Abs()); {
	case d.Abs() < time.Second:
		return "now"
	case d < 0:
		return "in " + text
	default:
		return text + " ago"
	}
}

// about formats a duration in its largest unit.
func about(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}
