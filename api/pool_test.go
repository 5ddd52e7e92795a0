package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/api"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

const plainShelf = "plain erpnext"

// keep announces a bench and keeps a shelf of it, as a worker does.
func (s *server) keep(bench, key string, target int) {
	s.t.Helper()
	err := s.store.AnnounceBench(s.t.Context(), bench)
	if err == nil {
		err = s.store.SetTarget(s.t.Context(), bench, key, target)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// shelve puts standbys on a shelf.
func (s *server) shelve(bench string, apps []string, jobs ...string) {
	s.t.Helper()
	for _, letter := range jobs {
		id := nexus.JobID(strings.Repeat(letter, 32))
		if err := s.store.Reshelve(s.t.Context(), bench, nexus.Standby{Job: id, DB: "nx1", Template: "plain-1", Spec: nexus.TemplatePlain, Apps: apps}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// pools are the shelves of the benches, as the API lists them.
func (s *server) pools() map[string]any {
	s.t.Helper()
	out := map[string]any{}
	_, _, body := s.ask("GET", "/benches", "", bearer(reader)...)
	for _, each := range body["benches"].([]any) {
		bench := each.(map[string]any)
		out[bench["name"].(string)] = bench["pool"]
	}
	return out
}

// drivePool gets each answer of the calls on shelves.
func drivePool(s *server) {
	s.keep("main", plainShelf, 2)
	s.ask("POST", "/benches/main/pool/fill", "{}")
	s.ask("POST", "/benches/main/pool/fill", "{}", bearer(reader)...)
	s.ask("POST", "/benches/main/pool/empty", "{}", bearer(operator)...)
	s.ask("POST", "/benches/nowhere/pool/fill", "{}", bearer(operator)...)
	s.ask("POST", "/benches/main/pool/fill", "{}", append(bearer(operator), "Content-Type", "text/plain")...)
	s.ask("POST", "/benches/main/pool/fill", "{}", bearer(operator)...)
	s.ask("POST", "/benches/main/pool/drain", "{}", bearer(operator)...)
}

// TestPoolIsListed: each bench has its shelves, except those that nobody keeps and that hold
// nothing.
func TestPoolIsListed(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.keep("main", plainShelf, 2)
	s.shelve("main", []string{"erpnext"}, "a", "b", "c")
	if err := s.store.Reap(t.Context(), nexus.JobID(strings.Repeat("a", 32))); err != nil {
		t.Fatal(err)
	}
	s.keep("other", "plain erpnext hrms?", 4)
	s.shelve("third", nil, "d")
	s.keep("third", "plain gone", 1)
	if err := s.store.LeaveShelf(t.Context(), "third", "plain gone"); err != nil {
		t.Fatal(err)
	}
	shelf := func(apps []any, kept bool, target, shelved, reaping float64) []any {
		return []any{map[string]any{"template": "plain", "apps": apps, "kept": kept, "target": target, "shelved": shelved, "making": 0.0, "popped": 0.0,
			"reaping": reaping, "hits": 0.0, "misses": 0.0, "failures": 0.0, "drained": false}}
	}
	want := map[string]any{"main": shelf([]any{"erpnext"}, true, 2, 2, 1), "other": shelf([]any{"erpnext", "hrms?"}, true, 4, 0, 0), "third": shelf([]any{}, false, 0, 1, 0)}
	if diff := cmp.Diff(want, s.pools()); diff != "" {
		t.Error(diff)
	}
	_, _, text := s.text("GET", "/metrics", "", "")
	for _, line := range []string{`nexus_pool_standbys{bench="main",state="shelved",template="plain"} 2`, `nexus_pool_standbys{bench="main",state="reaping",template="plain"} 1`,
		`nexus_pool_standbys{bench="main",state="making",template="plain"} 0`, `nexus_pool_target{bench="other",template="plain"} 4`, `nexus_pool_hits_total{bench="main",template="plain"} 0`} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

// TestPoolMetricsAreAdded: the shelves of one template and several lists of apps count
// together, at each scrape anew.
func TestPoolMetricsAreAdded(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.keep("main", plainShelf, 2)
	s.keep("main", "plain hrms", 3)
	s.rdb.HSet(t.Context(), "{nexus}:pool:main "+plainShelf, "hits", 5, "misses", 1)
	s.rdb.HSet(t.Context(), "{nexus}:pool:main plain hrms", "hits", 7, "misses", 2)
	for range 2 {
		_, _, text := s.text("GET", "/metrics", "", "")
		for _, line := range []string{`nexus_pool_target{bench="main",template="plain"} 5`, `nexus_pool_hits_total{bench="main",template="plain"} 12`,
			`nexus_pool_misses_total{bench="main",template="plain"} 3`} {
			if !strings.Contains(text, line+"\n") {
				t.Errorf("the metrics lack %s", line)
			}
		}
	}
}

// TestSetPoolOfACountry: only the shelves of the template that is named are drained, whatever
// the case of the country.
func TestSetPoolOfACountry(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, key := range []string{plainShelf, "US erpnext", "DE:SKR03 erpnext", "DE:SKR04 erpnext"} {
		s.keep("main", key, 0)
	}
	for _, tc := range []struct{ template, want string }{{"us", "US"}, {"de:SKR04", "DE:SKR04 US"}, {"FR", ""}, {"Plain", "DE:SKR04 US plain"}} {
		status, _, body := s.ask("POST", "/benches/main/pool/drain", `{"template":"`+tc.template+`"}`, bearer(operator)...)
		var drained []string
		pool, _ := body["pool"].([]any)
		for _, each := range pool {
			if shelf := each.(map[string]any); shelf["drained"] == true {
				drained = append(drained, shelf["template"].(string))
			}
		}
		slices.Sort(drained)
		if got := strings.Join(drained, " "); got != tc.want {
			t.Errorf("%s: %d, drained are %s: %v", tc.template, status, got, body)
		}
	}
}

// TestSetPool: an operator fills and drains all shelves of a bench, or those of one template.
func TestSetPool(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.keep("main", plainShelf, 3)
	s.keep("main", "plain hrms", 0)
	s.keep("main", "other hrms", 0) // of a newer version
	set := func(verb, text string) (pool []any) {
		t.Helper()
		status, _, body := s.ask("POST", "/benches/main/pool/"+verb, text, bearer(operator)...)
		if status != 200 || body["name"] != "main" {
			t.Fatalf("%s %s: %d %v", verb, text, status, body)
		}
		return body["pool"].([]any)
	}
	is := func(pool []any) (out []string) {
		for _, each := range pool {
			shelf := each.(map[string]any)
			out = append(out, fmt.Sprintf("%v %v %v %v", shelf["apps"], shelf["drained"], shelf["atLeast"], shelf["until"]))
		}
		return out
	}
	at := func(d time.Duration) string { return fixed.Add(d).UTC().Format(time.RFC3339) }
	for _, tc := range []struct {
		verb, text string
		want       []string
	}{
		{"fill", "{}", []string{"[hrms] false 4 " + at(time.Hour), "[erpnext] false 6 " + at(time.Hour), "[hrms] false 4 " + at(time.Hour)}},
		{"fill", `{"members":20,"for":"90m","template":"plain"}`, []string{"[hrms] false 4 " + at(time.Hour), "[erpnext] false 20 " + at(90*time.Minute), "[hrms] false 20 " + at(90*time.Minute)}},
		{"drain", "{}", []string{"[hrms] true <nil> <nil>", "[erpnext] true <nil> <nil>", "[hrms] true <nil> <nil>"}},
		{"drain", `{"template":null,"members":null,"for":null}`, []string{"[hrms] true <nil> <nil>", "[erpnext] true <nil> <nil>", "[hrms] true <nil> <nil>"}},
		{"fill", `{"members":1,"for":"168h"}`, []string{"[hrms] false 1 " + at(168*time.Hour), "[erpnext] false 1 " + at(168*time.Hour), "[hrms] false 1 " + at(168*time.Hour)}},
	} {
		if diff := cmp.Diff(tc.want, is(set(tc.verb, tc.text))); diff != "" {
			t.Errorf("%s %s: %s", tc.verb, tc.text, diff)
		}
	}
	s.redis.SetTime(fixed.Add(169 * time.Hour))
	if pool := s.pools()["main"]; strings.Contains(fmt.Sprint(pool), "atLeast") {
		t.Errorf("when its time is over: %v", pool)
	}
}

func TestSetPoolRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.keep("main", plainShelf, 3)
	s.keep("bare", plainShelf, 3)
	if err := s.store.LeaveShelf(t.Context(), "bare", plainShelf); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		bench, verb, text string
		status            int
		says              string
	}{
		{"main", "empty", "{}", 404, "There is no such call; shelves can be told to fill or drain."},
		{"main", "fill", `{"template":"gold"}`, 400, `There is no template "gold". Write plain, or the ISO code of a country, such as US, or with a word of the name of a chart of accounts: DE:SKR04.`},
		{"main", "fill", `{"members":0}`, 400, "Ask for 1 to 1000 copies."},
		{"main", "fill", `{"members":1001}`, 400, "Ask for 1 to 1000 copies."},
		{"main", "fill", `{"for":"59s"}`, 400, "Give a time such as 90m or 2h, from 1m to 168h."},
		{"main", "fill", `{"for":"169h"}`, 400, "Give a time such as 90m or 2h, from 1m to 168h."},
		{"main", "fill", `{"for":"0m"}`, 400, "Give a time such as 90m or 2h, from 1m to 168h."},
		{"main", "fill", `{"for":"10000m"}`, 400, "Give a time such as 90m or 2h, from 1m to 168h."},
		{"main", "fill", `{"for":"+2h"}`, 400, "Give a time such as 90m or 2h, from 1m to 168h."},
		{"main", "fill", `{"for":"m"}`, 400, "Give a time such as 90m or 2h, from 1m to 168h."},
		{"main", "fill", `{"for":"long"}`, 400, "Give a time such as 90m or 2h, from 1m to 168h."},
		{"main", "fill", `{"size":3}`, 400, ""},
		{"nowhere", "fill", "{}", 404, "There is no bench of this name; nexus bench list shows them."},
		{"bare", "fill", "{}", 404, "No worker keeps a shelf there; set NEXUS_POOL on its workers and build a template."},
		{"bare", "drain", "{}", 404, "No worker keeps a shelf there; set NEXUS_POOL on its workers and build a template."},
	} {
		status, _, body := s.ask("POST", "/benches/"+tc.bench+"/pool/"+tc.verb, tc.text, bearer(operator)...)
		if detail, _ := body["detail"].(string); status != tc.status || tc.says != "" && detail != tc.says {
			t.Errorf("%s %s %s: %d %v", tc.bench, tc.verb, tc.text, status, body)
		}
	}
	s.shelve("bare", []string{"erpnext"}, "a") // left on a shelf that nobody keeps
	if status, _, body := s.ask("POST", "/benches/bare/pool/fill", "{}", bearer(operator)...); status != 404 {
		t.Errorf("fill: %d %v", status, body)
	}
	if status, _, body := s.ask("POST", "/benches/bare/pool/drain", "{}", bearer(operator)...); status != 200 {
		t.Errorf("drain: %d %v", status, body)
	}
	single := newServer(t, func(o *api.Options) { o.Single = true })
	single.keep("main", plainShelf, 3)
	if status, _, body := single.ask("POST", "/benches/main/pool/fill", "{}", bearer(operator)...); status != 403 || !strings.Contains(fmt.Sprint(body["detail"]), "users of one site") {
		t.Errorf("in single-tenant mode: %d %v", status, body)
	}
}

// TestShelfWarnings: the readiness says which shelf is empty, and which cannot be filled.
func TestShelfWarnings(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	key := "{nexus}:pool:main " + plainShelf
	warnings := func() string {
		t.Helper()
		_, _, body := s.ask("GET", "/readyz", "")
		return fmt.Sprint(body["warnings"])
	}
	want := func(when, says string) {
		t.Helper()
		if got := warnings(); !strings.Contains(got, says) || says == "<nil>" && got != says {
			t.Errorf("%s: %s", when, got)
		}
	}
	s.keep("main", plainShelf, 2)
	want("when it has never been filled", "<nil>")
	s.rdb.HSet(t.Context(), key, "emptyAt", fixed.Add(-time.Minute).UnixMilli())
	want("a minute after it became empty", "<nil>")
	s.rdb.HSet(t.Context(), key, "emptyAt", fixed.Add(-61*time.Second).UnixMilli())
	want("later", "No copy of the template plain has been ready on the bench main since "+fixed.Add(-61*time.Second).UTC().Format(time.RFC3339))
	s.keep("main", plainShelf, 0)
	want("when it is to hold none", "<nil>")
	if err := s.store.FillShelf(t.Context(), "main", plainShelf, 3, time.Hour); err != nil {
		t.Fatal(err)
	}
	want("when an operator wants some", "No copy of the template plain")
	s.rdb.HSet(t.Context(), key, "failures", 2)
	want("when making some failed twice", "No copy of the template plain")
	s.rdb.HSet(t.Context(), key, "failures", 3)
	want("when it failed again", "The last 3 jobs that make copies of the template plain on the bench main failed")
	s.ask("POST", "/benches/main/pause", "", bearer(operator)...)
	if got := warnings(); strings.Contains(got, "template") {
		t.Errorf("on a bench that is paused: %s", got)
	}
	s.ask("POST", "/benches/main/resume", "", bearer(operator)...)
	if err := s.store.LeaveShelf(t.Context(), "main", plainShelf); err != nil {
		t.Fatal(err)
	}
	s.shelve("main", []string{"erpnext"}, "a")
	if err := s.store.Reap(t.Context(), nexus.JobID(strings.Repeat("a", 32))); err != nil {
		t.Fatal(err)
	}
	s.rdb.HSet(t.Context(), key, "failures", 0, "emptyAt", fixed.Add(-time.Hour).UnixMilli())
	want("when nobody keeps it", "<nil>")
	s.keep("main", plainShelf, 2)
	if err := s.store.DrainShelf(t.Context(), "main", plainShelf); err != nil {
		t.Fatal(err)
	}
	want("when it is drained", "<nil>")
}
