//go:build service

package bench_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/bench"
)

// companyCalls calls functions of the runner, with a bench's erpnext and a clock of the test.
const companyCalls = `
import json, sys
sys.path.insert(0, sys.argv[1])
space = {"__name__": "runner"}
exec(compile(sys.stdin.read().rsplit("main()", 1)[0], "runner.py", "exec"), space)
real = space["datetime"].datetime
def years(country, at):
    class Clock(real):
        @classmethod
        def now(cls, zone=None):
            return real.fromisoformat(at + ":00+00:00")
    space["datetime"].datetime = Clock
    return [[space["year_name"](*year), *map(str, year)] for year in space["fiscal_years"](country)]
def refused(call, *args):
    try:
        return call(*args)
    except space["Refusal"] as e:
        return [e.code, e.message]
words = ("NexusABCDEFGHIJKLMNOP", "NXQRSTUVWX")
print(json.dumps({
    "years": [years(*each) for each in [("Germany", "2026-11-30T08:00"), ("India", "2026-04-01T11:00"), ("India", "2026-04-01T13:00"), ("United Kingdom", "2027-01-01T00:30"), ("South Africa", "2027-03-02T00:00")]],
    "charts": [space["chart_of"]("Testland", word) for word in ("", "2025", "farms", "NUMB")],
    "unknown": refused(space["chart_of"], "Testland", "SKR99"),
    "room": [space["abbreviation_room"](chart) for chart in ("short", "124", "131", "132")],
    "long": refused(space["abbreviation_room"], "133"),
    "misplaced": [space["misplaced"](cell, words) for cell in ["Cash - NXQRSTUVWX", "NexusABCDEFGHIJKLMNOP", "NexusABCDEFGHIJKLMNOP - NXQRSTUVWX, NXQRSTUVWX", "A < B & C NXQRSTUVWX", "Matériel de R&D, B&C - NXQRSTUVWX", "12",
        "nexusabcdefghijklmnop", "NXQRSTUVWX and nxqrstuvwx", '{"company": "NexusABCDEFGHIJKLMNOP"}', '["NXQRSTUVWX"]', '"NXQRSTUVWX"', "<b>NXQRSTUVWX</b>", "NXQRSTUVWX&nbsp;"]],
}))
`

// testCharts are charts of accounts as ERPNext offers them.
const testCharts = `
def get_charts_for_country(country, with_standard=False):
    return ["A plan of farms", "Plan 2025", "Plan", "Plaster"] + ["Standard", "Standard with Numbers"] * with_standard
def get_chart(name):
    if "Pla" in name or "plan" in name:
        return {"Income": {"Sales": {"Goods": {"account_type": "Income Account" if name in ("Plan 2025", "A plan of farms") else "Tax"}}}}
    if name == "short":
        return {"Assets": {"root_type": "Asset", "Cash": {"account_number": 100}}}
    return {"Assets": {"root_type": "x" * 139, "Cash": {"is_group": 1, "n" * (int(name) - 7) + " ": {"account_number": 1000, "account_name": "x"}}, "n" * (int(name) - 3): {}}}
`

// TestCompanyTemplates checks the chart of accounts and the fiscal years of a template, and
// where its company's name may stand. A year begins when it has begun everywhere on Earth.
func TestCompanyTemplates(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "erpnext")
	const charts = "accounts/doctype/account/chart_of_accounts/chart_of_accounts.py"
	for name, text := range map[string]string{"__init__.py": "", charts: testCharts, "public/js/setup_wizard.js": "x = {\n\tGermany: [\"05-05\", \"05-04\"],\n};\n// default\nerpnext.setup.fiscal_years = {\n" +
		"\tIndia: [\"04-01\", \"03-31\"],\n\t\"South Africa\": [\"03-01\", \"02-28\"],\n\t\"United Kingdom\": [\"04-01\", \"03-31\"],\n};\n\nvar other = {\n\tGermany: [\"06-06\", \"06-05\"],\n};\n"} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := python()
	if err != nil {
		t.Fatal(err)
	}
	source, err := bench.RunnerSource()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(is.Exe, "-c", companyCalls, filepath.Dir(folder))
	cmd.Stdin = bytes.NewReader(source)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	years := func(names ...string) any {
		return []any{[]any{names[0], names[1], names[2]}, []any{names[3], names[4], names[5]}}
	}
	want := map[string]any{
		"years": []any{
			years("2026", "2026-01-01", "2026-12-31", "2027", "2027-01-01", "2027-12-31"),
			years("2025-2026", "2025-04-01", "2026-03-31", "2026-2027", "2026-04-01", "2027-03-31"),
			years("2026-2027", "2026-04-01", "2027-03-31", "2027-2028", "2027-04-01", "2028-03-31"),
			years("2026-2027", "2026-04-01", "2027-03-31", "2027-2028", "2027-04-01", "2028-03-31"),
			years("2027-2028", "2027-03-01", "2028-02-29", "2028-2029", "2028-03-01", "2029-02-28"),
		},
		"charts":    []any{"Plan 2025", "Plan 2025", "A plan of farms", "Standard with Numbers"},
		"unknown":   []any{"invalid", "There is no chart of accounts with the word SKR99 for Testland; there are: Plan 2025, A plan of farms, Plan, Plaster, Standard, Standard with Numbers."},
		"room":      []any{10., 10., 6., 5.},
		"long":      []any{"invalid", "The accounts of the chart 133 have names of up to 133 characters, which leaves no room for a company's abbreviation; choose another chart."},
		"misplaced": []any{"", "", "", "", "", "", "another case in", "another case in", "JSON in", "JSON in", "JSON in", "HTML in", "HTML in"},
	}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Error(diff)
	}
}
