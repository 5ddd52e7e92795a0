package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		runs             []float64
		median, min, max float64
	}{
		{"one", []float64{3}, 3, 3, 3},
		{"odd, in no order", []float64{9, 1, 5}, 5, 1, 9},
		{"even: one of the measured figures", []float64{4, 1, 3, 2}, 3, 1, 4},
		{"an outlier moves the median little", []float64{10, 11, 12, 13, 900}, 12, 10, 900},
	} {
		before := slices.Clone(c.runs)
		got := spreadOf(c.runs)
		if got.Median != c.median || got.Min != c.min || got.Max != c.max {
			t.Errorf("%s: %+v", c.name, got)
		}
		if !slices.Equal(got.Runs, before) {
			t.Errorf("%s: the order of the runs was changed: %v", c.name, got.Runs)
		}
	}
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(i+1))
	}
	if got := quantile(hundred, 0.99); got != 99 {
		t.Errorf("p99 of 1…100 is %v", got)
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		budget         *budget
		runs           []float64
		met, straddles bool
	}{
		{"below", atMost(20), []float64{10, 12, 19}, true, false},
		{"at the limit", atMost(20), []float64{20, 20, 20}, true, false},
		{"met, and one run over", atMost(20), []float64{10, 12, 21}, true, true},
		{"missed, and one run below", atMost(20), []float64{19, 22, 25}, false, true},
		{"over", atMost(20), []float64{21, 22, 25}, false, false},
		{"enough", ofPeer(0.7), []float64{0.7, 0.8, 0.9}, true, false},
		{"enough, and one run less", ofPeer(0.7), []float64{0.6, 0.8, 0.9}, true, true},
		{"too little, and one run more", ofPeer(0.7), []float64{0.5, 0.6, 0.7}, false, true},
		{"too little", ofPeer(0.7), []float64{0.5, 0.6, 0.69}, false, false},
	} {
		if met, straddles := c.budget.judge(spreadOf(c.runs)); met != c.met || straddles != c.straddles {
			t.Errorf("%s: met %v, straddles %v", c.name, met, straddles)
		}
	}
}

// TestRow: the ratio is taken for each pair of runs, since other load on the machine slows
// both.
func TestRow(t *testing.T) {
	t.Parallel()
	ours, theirs := []float64{100, 300, 210}, []float64{1000, 1000, 700}
	r := row{Unit: unitRate, Budget: ofPeer(0.2)}.judged(ours, theirs)
	if want := []float64{0.1, 0.3, 0.3}; !slices.Equal(r.Ratio.Runs, want) {
		t.Errorf("ratios %v, want %v", r.Ratio.Runs, want)
	}
	if r.Ratio.Median != 0.3 || !*r.Met || !r.Straddles { // the ratio of the two medians would be 0.21
		t.Errorf("ratio %+v, met %v, straddles %v", *r.Ratio, *r.Met, r.Straddles)
	}
	r = row{Budget: atMost(200)}.judged(ours, theirs)
	if *r.Met || !r.Straddles {
		t.Errorf("a median of 210 against 200: met %v, straddles %v", *r.Met, r.Straddles)
	}
	r = row{}.judged(ours, theirs)
	if r.Met != nil || r.Straddles {
		t.Errorf("without a budget: met %v, straddles %v", r.Met, r.Straddles)
	}
	none := []float64{0, 1, 0}
	if r = (row{Budget: atMost(1)}).judged(none, none); r.Ratio != nil || !*r.Met {
		t.Errorf("a peer at zero: ratio %v, met %v", r.Ratio, *r.Met)
	}
	if r = (row{Budget: ofPeer(0.1)}).judged(ours, none); *r.Met {
		t.Error("a budget that is a part of zero is met")
	}
}

func sample() *report {
	return &report{Schema: schema, Date: time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC), Commit: "c0ffee-dirty", Go: "go1.26.8",
		Redis: "7.0.15", OS: "linux", Arch: "amd64", Cores: 2, Load: averages{0.5, 2}, Runs: 3, Seconds: 200, Rows: []row{
			row{ID: "quick", What: "quick", Unit: unitMillis, Peer: peerFigures{What: "its peer"}, Budget: atMost(20)}.judged([]float64{10.5, 14.25, 21}, []float64{10, 10, 10}),
			row{ID: "slow", What: "slow", Unit: unitMillis, Peer: peerFigures{What: "a slower one", Unfinished: true}, Budget: atMost(6000)}.judged([]float64{6100, 7000, 8000}, []float64{70000, 80000, 90000}),
			row{ID: "rate", What: "rate", Unit: unitRate, Peer: peerFigures{What: "bare"}, Budget: ofPeer(1.0 / 6)}.judged([]float64{300, 200, 250}, []float64{1000, 1000, 1000}),
			row{ID: "idle", What: "idle", Unit: unitPercent, Peer: peerFigures{What: "bare"}}.judged([]float64{0, 0, 0.1}, []float64{0, 0, 0}),
		}, NotMeasured: []absent{{ID: "real", What: "real bench", Budget: "≤ 3 s"}}}
}

func TestTable(t *testing.T) {
	t.Parallel()
	const want = `
                 median (least–most)    ratio to its peer        budget
quick            14.2 ms (10.5–21.0)    1.43× (1.05–2.10)        ≤ 20 ms    ✓ ~
  its peer       10.0 ms (10.0–10.0)
slow             7.00 s (6.10–8.00)     < 0.087× (0.087–0.089)   ≤ 6 s      ✗
  a slower one   > 80.0 s (70.0–90.0)
rate             250/s (200–300)        0.250× (0.200–0.300)     ≥ 0.167×   ✓
  bare           1000/s (1000–1000)
idle             0 % (0–0.100)          –
  bare           0 % (0–0)
real bench       not measured here                               ≤ 3 s

1 of 3 budgets missed (✗), by the median of 3 runs; 1 with runs on both sides (~).
The other budgets need a real bench: see docs/PERFORMANCE.md.
2 cores, load average 0.500 before and 2.00 after; go1.26.8, Redis 7.0.15, 200 s.
`
	var out bytes.Buffer
	sample().print(&out)
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestJSON pins the form of the JSON, which programs read.
func TestJSON(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := sample().write(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Schema, Date, Commit, Go, Redis, OS, Arch string
		Cores, Runs                               int
		Seconds                                   float64
		Load                                      struct{ Before, After float64 }
		Rows                                      []map[string]any
		NotMeasured                               []map[string]string
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got.Schema != "nexus-bench/1" || got.Date != "2026-11-25T08:00:00Z" || got.Commit != "c0ffee-dirty" || got.Cores != 2 || got.Load.After != 2 {
		t.Errorf("about the run: %+v", got)
	}
	if len(got.Rows) != 4 || len(got.NotMeasured) != 1 || got.NotMeasured[0]["id"] != "real" {
		t.Fatalf("%s", text)
	}
	for i, want := range []string{
		`{"budget":{"atMost":20,"of":"ours"},"id":"quick","met":true,"ours":{"max":21,"median":14.25,"min":10.5,"runs":[10.5,14.25,21]},` +
			`"peer":{"max":10,"median":10,"min":10,"runs":[10,10,10],"what":"its peer"},` +
			`"ratio":{"max":2.1,"median":1.425,"min":1.05,"runs":[1.05,1.425,2.1]},"straddles":true,"unit":"ms","what":"quick"}`,
		"", "",
		`{"budget":null,"id":"idle","met":null,"ours":{"max":0.1,"median":0,"min":0,"runs":[0,0,0.1]},` +
			`"peer":{"max":0,"median":0,"min":0,"runs":[0,0,0],"what":"bare"},"ratio":null,"straddles":false,"unit":"%","what":"idle"}`,
	} {
		if line, _ := json.Marshal(got.Rows[i]); want != "" && string(line) != want {
			t.Errorf("row %d is\n%s\nwant\n%s", i, line, want)
		}
	}
	if peer, _ := got.Rows[1]["peer"].(map[string]any); peer["unfinished"] != true {
		t.Errorf("an unfinished peer is not marked as such: %v", peer)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, args string
		parts      string
		runs       int
		json, err  string
	}{
		{"none", "", "idle latency rate reads watch lists crowd dev kill", 5, "bench.json", ""},
		{"parts, in the program's order", "reads idle", "idle reads", 5, "bench.json", ""},
		{"flags", "-runs 3 -json out/b.json rate", "rate", 3, "out/b.json", ""},
		{"no such part", "speed", "", 0, "", `there is no part "speed"`},
		{"no run", "-runs 0", "", 0, "", "-runs and -watchers must be 1 or more"},
		{"no such flag", "-rounds 3", "", 0, "", "not defined: -rounds"},
	} {
		o, err := readOptions(strings.Fields(c.args), io.Discard)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %s", c.name, err, c.err)
			}
			continue
		}
		var names []string
		for _, part := range o.parts {
			names = append(names, part.name)
		}
		if err != nil || strings.Join(names, " ") != c.parts || o.runs != c.runs || o.json != c.json {
			t.Errorf("%s: %v, %v, %+v", c.name, err, names, o)
		}
	}
	if _, err := readOptions([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}
