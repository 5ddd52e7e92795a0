package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestWhen: a column shows on a terminal how long ago a time was, elsewhere the time with
// its zone.
func TestWhen(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 8, 30, 12, 0, 0, 0, time.UTC)
	person := shared{look: look{terminal: true, now: func() time.Time { return now }}}
	for span, want := range map[time.Duration]string{
		0: "now", -12 * time.Second: "12s ago", -3 * time.Minute: "3m ago", -5 * time.Hour: "5h ago", -49 * time.Hour: "2d ago", 7 * 24 * time.Hour: "in 7d",
	} {
		if at := now.Add(span); person.when(&at) != want {
			t.Errorf("%s: %q, want %q", span, person.when(&at), want)
		}
	}
	program := shared{}
	if got := program.when(&now); got != now.Local().Format("2006-01-02 15:04:05 -07:00") || program.when(nil) != "" {
		t.Errorf("elsewhere: %q", got)
	}
}

// TestTable: columns are aligned, with colors and without, and no line ends in spaces.
func TestTable(t *testing.T) {
	t.Parallel()
	rows := [][]string{{"SITE", "STATE", "NOTE"}, {"müller", "active", ""}, {"acme", "failed", "why"}, {"b", "", ""}}
	const want = "SITE    STATE   NOTE\nmüller  active\nacme    failed  why\nb\n"
	plain, colored := shared{}, shared{look: look{color: true}}
	if got := plain.table(rows); got != want {
		t.Errorf("plain:\n%s", got)
	}
	got := colored.table(rows)
	if !strings.Contains(got, "\x1b[32mactive\x1b[0m\n") || !strings.Contains(got, "\x1b[31mfailed\x1b[0m  why\n") {
		t.Errorf("colored: %q", got)
	}
	if bare := strings.NewReplacer("\x1b[32m", "", "\x1b[31m", "", "\x1b[0m", "").Replace(got); bare != want {
		t.Errorf("colors move the columns:\n%s", bare)
	}
}

// TestLookOfAPipe: output that is not a terminal has neither colors nor relative times.
func TestLookOfAPipe(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetOut(&out)
	s := shared{output: "table"}
	if err := s.prepare(cmd); err != nil || s.terminal || s.color {
		t.Errorf("terminal %t, color %t, %v", s.terminal, s.color, err)
	}
}

func TestColored(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		noColor, term string
		want          bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"false", "xterm", false}, {"", "dumb", false}} {
		env := map[string]string{"NO_COLOR": tc.noColor, "TERM": tc.term}
		if got := colored(func(name string) string { return env[name] }); got != tc.want {
			t.Errorf("NO_COLOR=%s TERM=%s: %t", tc.noColor, tc.term, got)
		}
	}
}

func TestJQ(t *testing.T) {
	t.Parallel()
	record := map[string]any{"jobs": []map[string]any{{"id": "a", "n": 1}, {"id": "b", "n": 2}}}
	for _, tc := range []struct{ query, want string }{
		{".jobs[].id", "a\nb\n"},
		{".jobs[1]", `{"id":"b","n":2}` + "\n"},
		{"[.jobs[].n] | add", "3\n"},
		{"env | length", "0\n"}, // the environment contains tokens
	} {
		var out bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetOut(&out)
		s := shared{output: "table", jq: tc.query}
		err := s.prepare(cmd)
		if err == nil {
			cmd.SetContext(t.Context())
			err = s.print(cmd, record, nil)
		}
		if err != nil || out.String() != tc.want {
			t.Errorf("%s: %q, want %q; %v", tc.query, out.String(), tc.want, err)
		}
	}
	for _, query := range []string{".jobs[", "nosuch(1)"} {
		s := shared{output: "table", jq: query}
		if err := s.prepare(&cobra.Command{}); exitCode(err) != exitUsage {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestHintsOfToken: the hint to set another token is given only if an API has answered.
func TestHintsOfToken(t *testing.T) {
	t.Parallel()
	for _, code := range []nexus.Code{nexus.Forbidden, nexus.Unauthenticated} {
		if got := refuse(&nexus.Error{Code: code, Op: "app.cleanup", Msg: "That would remove 5 of 6."}).Action; got != "" {
			t.Errorf("%s: %q", code, got)
		}
	}
}

// TestSomePages: pages reads as many elements as wanted, in pages of the largest size.
func TestSomePages(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		some  some
		have  int
		sizes []int
		fails bool
	}{
		{name: "usual", some: some{limit: 50}, have: 53, sizes: []int{50}},
		{name: "few", some: some{limit: 2}, have: 53, sizes: []int{2}},
		{name: "more than a page", some: some{limit: 250}, have: 1000, sizes: []int{200, 50}},
		{name: "more than there are", some: some{limit: 500}, have: 210, sizes: []int{200, 200}},
		{name: "all", some: some{limit: 50, all: true}, have: 450, sizes: []int{200, 200, 200}},
		{name: "none", some: some{limit: 0}, fails: true},
	} {
		left, sizes := tc.have, []int{}
		err := tc.some.pages(func(_ string, size int) (*string, int, error) {
			sizes = append(sizes, size)
			count := min(size, left)
			if left -= count; left == 0 {
				return nil, count, nil
			}
			more := "more"
			return &more, count, nil
		})
		if (err != nil) != tc.fails || len(sizes) != len(tc.sizes) {
			t.Errorf("%s: asked for %v, want %v; %v", tc.name, sizes, tc.sizes, err)
			continue
		}
		for i := range sizes {
			if sizes[i] != tc.sizes[i] {
				t.Errorf("%s: asked for %v, want %v", tc.name, sizes, tc.sizes)
			}
		}
	}
}

// TestNoFilesOffered: no argument or flag is completed with names of files, except for the
// file that init writes.
func TestNoFilesOffered(t *testing.T) {
	t.Parallel()
	each(rootCommand(), func(cmd *cobra.Command) {
		if cmd.Runnable() && cmd.HasParent() && cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 {
			if d := cmd.Root().CompletionOptions.DefaultShellCompDirective; d == nil || *d != cobra.ShellCompDirectiveNoFileComp {
				t.Errorf("%s offers files", cmd.CommandPath())
			}
		}
	})
	if names, directive := completePlan(nil, nil, ""); len(names) != len(nexus.Plans()) || directive != cobra.ShellCompDirectiveNoFileComp {
		t.Errorf("plans: %v", names)
	}
}
