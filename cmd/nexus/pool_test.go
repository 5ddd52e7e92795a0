package main

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/api/gen"
)

// poolAPI answers calls about benches and their shelves.
type poolAPI struct {
	benches []gen.Bench
	sent    []string // calls that change a shelf, with their bodies
}

func (f *poolAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		_ = json.NewEncoder(w).Encode(gen.BenchList{Benches: f.benches})
		return
	}
	body, _ := io.ReadAll(r.Body)
	f.sent = append(f.sent, r.URL.Path+" "+string(body))
	_ = json.NewEncoder(w).Encode(f.benches[0])
}

func TestPoolShow(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)
	shelf := func(change func(*gen.Shelf)) gen.Shelf {
		s := gen.Shelf{Template: "plain", Apps: []string{"erpnext"}, Kept: true, Target: 2, Shelved: 2, Hits: 140, Misses: 3}
		change(&s)
		return s
	}
	f := &poolAPI{benches: []gen.Bench{
		{Name: "a", Pool: []gen.Shelf{shelf(func(*gen.Shelf) {})}},
		{Name: "b", Pool: []gen.Shelf{shelf(func(s *gen.Shelf) { s.Drained, s.Shelved, s.Reaping = true, 0, 2 })}},
		{Name: "c", Pool: []gen.Shelf{shelf(func(s *gen.Shelf) { s.Kept, s.Target, s.Popped = false, 0, 1 })}},
		{Name: "d", Pool: []gen.Shelf{
			shelf(func(s *gen.Shelf) { s.AtLeast, s.Until, s.Making = new(9), &until, 4 }),
			shelf(func(s *gen.Shelf) { s.Apps, s.Failures = []string{"erpnext", "hrms?"}, 3 })}},
		{Name: "e"},
	}}
	out, _, err := called(t.Context(), f, "pool", "show")
	want := "BENCH  TEMPLATE  SHELVED  MAKING  TARGET  HITS  MISSES  NOTE\n" +
		"a      plain     2        0       2       140   3\n" +
		"b      plain     0        0       2       140   3       drained by an operator; nexus pool fill ends that; 2 are dropped\n" +
		"c      plain     2        0       0       140   3       no worker keeps it; 1 become sites\n" +
		"d      plain     2        4       2       140   3       with erpnext; at least 9 until " + local(&until) + "\n" +
		"d      plain     2        0       2       140   3       with erpnext,hrms?; 3 failures in a row\n"
	if err != nil || out != want {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _, err := called(t.Context(), f, "pool", "show", "--jq", `.shelves[] | "\(.bench) \(.shelved)"`); err != nil || out != "a 2\nb 0\nc 2\nd 2\nd 2\n" {
		t.Errorf("--jq: %v\n%s", err, out)
	}
	f = &poolAPI{benches: []gen.Bench{{Name: "e"}}}
	if out, errs, err := called(t.Context(), f, "pool", "show"); err != nil || out != "" || errs != noShelves+"\n" {
		t.Errorf("none: %v\n%s%s", err, out, errs)
	}
	if out, _, err := called(t.Context(), f, "pool", "show", "-o", "json"); err != nil || !strings.Contains(out, `"shelves": []`) {
		t.Errorf("none, as JSON: %v\n%s", err, out)
	}
}

func TestPoolSet(t *testing.T) {
	t.Parallel()
	one := []gen.Bench{{Name: "main", Pool: []gen.Shelf{{Template: "plain", Kept: true}}}}
	two := append(slices.Clone(one), gen.Bench{Name: "other"})
	for _, tc := range []struct {
		args    string
		benches []gen.Bench
		sent    string
		code    int
	}{
		{args: "fill", benches: one, sent: `/benches/main/pool/fill {"for":"60m"}`},
		{args: "fill --members 50 --for 2h --template plain", benches: one, sent: `/benches/main/pool/fill {"for":"120m","members":50,"template":"plain"}`},
		{args: "fill --members 0", benches: one, sent: `/benches/main/pool/fill {"for":"60m","members":0}`}, // the API refuses it
		{args: "drain", benches: one, sent: `/benches/main/pool/drain {}`},
		{args: "drain --bench other --template plain", benches: two, sent: `/benches/other/pool/drain {"template":"plain"}`},
		{args: "drain", benches: two, code: exitUsage},
		{args: "drain", code: exitFailed},
		{args: "fill all", benches: one, code: exitUsage},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			f := &poolAPI{benches: tc.benches}
			out, _, err := called(t.Context(), f, append([]string{"pool"}, strings.Fields(tc.args)...)...)
			if code := codeOf(err); code != tc.code {
				t.Errorf("%v", err)
			}
			if sent := strings.Join(f.sent, "\n"); sent != tc.sent || tc.code == 0 && !strings.Contains(out, "\nmain   plain") {
				t.Errorf("sent %s\n%s", sent, out)
			}
		})
	}
	f := &poolAPI{benches: two}
	for _, flag := range []string{"--bench", "--template"} {
		if out, _, err := called(t.Context(), f, "__complete", "pool", "fill", flag, ""); err != nil || !strings.HasPrefix(out, map[string]string{"--bench": "main", "--template": "plain"}[flag]) {
			t.Errorf("completion of %s: %v\n%s", flag, err, out)
		}
	}
}
