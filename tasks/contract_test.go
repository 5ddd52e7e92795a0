package tasks_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestStepsGolden compares the names of kinds and steps with those that are stored in
// journals. A name may be added, but never changed or removed.
func TestStepsGolden(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/steps.golden")
	if err != nil {
		t.Fatal(err)
	}
	stored := strings.Split(strings.TrimSpace(string(text)), "\n")
	var have []string
	for _, p := range tasks.Processes() {
		for _, name := range tasks.Steps(p.Kind) {
			have = append(have, string(p.Kind)+" "+string(name))
		}
	}
	for _, line := range stored {
		if !slices.Contains(have, line) {
			t.Errorf("%q is gone. Jobs in Redis name it: bring it back. A step that shall do nothing any more keeps its row.", line)
		}
	}
	for _, line := range have {
		if !slices.Contains(stored, line) {
			t.Errorf("%q is new. Append it to testdata/steps.golden; it can never be taken out or mean something else again.", line)
		}
	}
	for _, lines := range [][]string{have, stored} {
		slices.Sort(lines)
		if once := slices.Compact(slices.Clone(lines)); len(once) != len(lines) {
			t.Errorf("a name comes twice in %v", lines)
		}
	}
}

// TestRows compares the processes with the table of the design.
func TestRows(t *testing.T) {
	t.Parallel()
	want := map[nexus.Kind][]string{
		nexus.KindProvision: {
			"reserve 5s ∞",
			"site 10m0s 3 undo",
			"apps 10m0s 2",
			"company 30s 4",
			"user 1m0s 4",
			"plan 30s 4",
			"api_key 30s 4",
			"verify 15s ∞",
			"activate 10s ∞",
		},
		nexus.KindTeardown:  {"suspend 30s ∞", "drop 5m0s ∞", "forget 30s ∞"},
		nexus.KindSuspend:   {"close 30s ∞ undo"},
		nexus.KindRestore:   {"open 30s ∞ undo"},
		nexus.KindRotateKey: {"api_key 30s 4", "verify 15s ∞"},
		nexus.KindAdopt:     {"adopt 30s 4 undo", "plan 30s 4", "api_key 30s 4", "verify 15s ∞", "activate 10s ∞"},
		nexus.KindTemplate:  {"reserve 5s ∞", "site 10m0s 3 undo", "apps 10m0s 2", "company 15m0s 2", "freeze 2m0s 3 undo"},
		nexus.KindStandby:   {"reserve 5s ∞", "site 2m0s 3 undo", "shelve 1m0s 3"},
	}
	got := map[nexus.Kind][]string{}
	for _, p := range tasks.Processes() {
		for _, step := range p.Steps {
			row := fmt.Sprintf("%s %s %d", step.Name, step.Timeout, step.Attempts)
			if step.Attempts == tasks.Forever {
				row = fmt.Sprintf("%s %s ∞", step.Name, step.Timeout)
			}
			if step.Undo != nil {
				row += " undo"
			}
			if step.Do == nil || step.Timeout < time.Second || step.Attempts < 1 {
				t.Errorf("%s: a row that cannot run", row)
			}
			got[p.Kind] = append(got[p.Kind], row)
		}
		if p.Kind.OneWay() != (p.Kind == nexus.KindTeardown || p.Kind == nexus.KindRotateKey) {
			t.Errorf("%s: one way %t", p.Kind, p.Kind.OneWay())
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	for _, p := range tasks.Processes() {
		for _, name := range tasks.Steps(p.Kind) {
			if step, ok := p.Find(name); !ok || step.Name != name {
				t.Errorf("%s: found %q, %t", name, step.Name, ok)
			}
		}
		if step, ok := p.Find("paint"); ok {
			t.Errorf("found %+v", step)
		}
	}
	if steps := tasks.Steps("paint"); steps != nil {
		t.Errorf("an unknown kind has the steps %v", steps)
	}
}
