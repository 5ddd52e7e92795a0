package provisioner_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// alarm is one rule of deploy/prometheus/nexus.rules.yml.
type alarm struct{ name, expr, wait, runbook string }

// readAlarms reads the rules line by line: the file keeps each value on one line.
func readAlarms(t *testing.T) (out []alarm) {
	t.Helper()
	text, err := os.ReadFile("deploy/prometheus/nexus.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimLeft(strings.TrimSpace(line), "- "), ": ")
		if key == "alert" {
			out = append(out, alarm{name: value})
		}
		if len(out) == 0 {
			continue
		}
		switch last := &out[len(out)-1]; key {
		case "expr":
			last.expr = value
		case "for":
			last.wait = value
		case "runbook":
			last.runbook = value
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d rules found", len(out))
	}
	return out
}

var series = regexp.MustCompile(`\bnexus_[a-z_]+\b`)

// TestRulesAreDocumented: Operations has the expressions of the rules and no others,
// each rule's heading is there, and each rule has a test.
func TestRulesAreDocumented(t *testing.T) {
	t.Parallel()
	p := pages(t)["docs/OPERATIONS.md"]
	said := map[string]bool{}
	for _, b := range p.blocks {
		for line := range strings.Lines(b.text) {
			if b.info == "promql" {
				said[strings.TrimSpace(line)] = true
			}
		}
	}
	tests, err := os.ReadFile("deploy/prometheus/nexus.rules.test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range readAlarms(t) {
		if !said[a.expr] {
			t.Errorf("docs/OPERATIONS.md has no alarm %s: %s", a.name, a.expr)
		}
		delete(said, a.expr)
		page, at, _ := strings.Cut(a.runbook, "#")
		if page != "docs/OPERATIONS.md" || !p.anchors[at] {
			t.Errorf("%s: its runbook %q is no heading of docs/OPERATIONS.md", a.name, a.runbook)
		}
		fires := regexp.MustCompile(`alertname: ` + a.name + `\n +exp_alerts:\n +- exp_labels`)
		if !fires.Match(tests) {
			t.Errorf("%s fires in no test", a.name)
		}
		if a.wait != "" && !strings.Contains(p.text, "`for: "+a.wait+"`") {
			t.Errorf("docs/OPERATIONS.md says nothing of `for: %s`, which %s has", a.wait, a.name)
		}
	}
	for _, expr := range slices.Sorted(maps.Keys(said)) {
		t.Errorf("docs/OPERATIONS.md has an alarm that no rule has: %s", expr)
	}
}

// TestRulesNameWhatIsThere: metrics and states that rules ask for are those of the code,
// and rules count by increase or rate: a difference of two moments is wrong after each
// restart and after each gap.
func TestRulesNameWhatIsThere(t *testing.T) {
	t.Parallel()
	names := metrics(sources(t, os.DirFS(".")))
	suffix := regexp.MustCompile(`_(bucket|sum|count)$`)
	state := regexp.MustCompile(`state="(\w+)"`)
	counted := regexp.MustCompile(`(?:increase|rate)\(\w+(?:\{[^}]*\})?\[`)
	for _, a := range readAlarms(t) {
		for _, name := range series.FindAllString(a.expr, -1) {
			if !slices.Contains(names, name) && !slices.Contains(names, suffix.ReplaceAllString(name, "")) {
				t.Errorf("%s asks for %s, which no part has", a.name, name)
			}
		}
		for _, found := range state.FindAllStringSubmatch(a.expr, -1) {
			if !slices.Contains(nexus.States(), nexus.State(found[1])) {
				t.Errorf("%s asks for the state %s, which is none", a.name, found[1])
			}
		}
		if rest := counted.ReplaceAllString(a.expr, ""); strings.Contains(rest, "_total") || strings.Contains(a.expr, "offset") {
			t.Errorf("%s: %s", a.name, fmt.Sprintf("counts without increase or rate: %s", a.expr))
		}
	}
}
