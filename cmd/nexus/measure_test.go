package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// measureAPI answers calls about sites. A site is made as soon as it is asked for.
type measureAPI struct {
	end    func(name string, job *gen.Job)     // how a job ends
	refuse func(call string) (code nexus.Code) // which calls it refuses; nil: none
	shelf  func() gen.Shelf                    // nil: there is none
	after  func(call string)                   // called after each call; nil: nothing

	mu    sync.Mutex
	jobs  map[string]*gen.Job // by id; the job "id-NAME" makes the site NAME
	late  gen.State           // of a job whose cancel is refused
	asked []gen.TenantRequest
	keys  []string // idempotency keys of signups, in the order of the calls
	calls []string // that change something
}

var madeAt = time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)

func (f *measureAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := r.Method + " " + r.URL.Path
	answer := f.answer(call, r)
	status := http.StatusOK
	if p, refused := answer.(gen.Problem); refused {
		status = map[string]int{"unavailable": 503, "not_found": 404, "conflict": 409, "forbidden": 403}[p.Code]
	}
	w.Header().Set("ETag", `"1"`)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
	if f.after != nil {
		f.after(call)
	}
}

func (f *measureAPI) answer(call string, r *http.Request) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/tenants/"), ".example.com")
	if r.Method != http.MethodGet && r.URL.Path != "/tenants" {
		f.calls = append(f.calls, call)
	}
	if call == "POST /tenants" {
		name = f.record(r)
	}
	if f.refuse != nil {
		if code := f.refuse(call); code != "" {
			if strings.HasSuffix(call, "/cancel") { // it was too late
				f.jobs[strings.Split(r.URL.Path, "/")[2]].State = f.late
			}
			return gen.Problem{Code: string(code), Detail: new("It said no.")}
		}
	}
	id := strings.Split(strings.TrimPrefix(r.URL.Path, "/jobs/"), "/")[0]
	switch {
	case call == "POST /tenants":
		return gen.Accepted{JobId: "id-" + name, Site: name + ".example.com"}
	case call == "GET /benches":
		list := gen.BenchList{Benches: []gen.Bench{{Name: "main"}}}
		if f.shelf != nil {
			list.Benches[0].Pool = []gen.Shelf{f.shelf()}
		}
		return list
	case strings.HasPrefix(call, "GET /subdomains/"):
		return gen.Subdomain{Site: strings.TrimPrefix(r.URL.Path, "/subdomains/") + ".example.com"}
	case strings.HasSuffix(call, "/cancel"):
		f.jobs[id].State = gen.StateCanceled
		return f.jobs[id]
	case strings.HasPrefix(call, "GET /jobs/rm-"), r.Method == http.MethodDelete:
		return gen.Job{Id: "rm-" + name, State: gen.StateSucceeded}
	case strings.HasPrefix(call, "GET /jobs/"):
		return f.jobs[id]
	case strings.HasPrefix(call, "GET /tenants/") && f.jobs["id-"+name] != nil:
		tenant := gen.Tenant{Site: name + ".example.com"}
		if !over(f.jobs["id-"+name].State) {
			tenant.Job = new("id-" + name)
		}
		return tenant
	}
	return gen.Problem{Code: "not_found"}
}

// record records a signup, and returns the name of its site.
func (f *measureAPI) record(r *http.Request) string {
	var body gen.TenantRequest
	_ = json.NewDecoder(r.Body).Decode(&body)
	f.asked, f.keys = append(f.asked, body), append(f.keys, r.Header.Get("Idempotency-Key"))
	job := &gen.Job{Id: "id-" + body.Subdomain, State: gen.StateSucceeded, Road: body.Road, CreatedAt: madeAt}
	if f.end != nil {
		f.end(body.Subdomain, job)
	}
	f.jobs[job.Id] = job
	return body.Subdomain
}

// call runs the command, and returns its outputs with TAG in the place of the names' random part.
func (f *measureAPI) call(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	f.jobs = map[string]*gen.Job{}
	stdout, stderr, err = called(ctx, f, append([]string{"bench", "measure", "--gap", "0s"}, args...)...)
	tag := "none"
	if len(f.asked) > 0 {
		tag = strings.Split(f.asked[0].Subdomain, "-")[1]
	}
	for i, call := range f.calls {
		f.calls[i] = strings.ReplaceAll(call, tag, "TAG")
	}
	slices.Sort(f.calls)
	return strings.ReplaceAll(stdout, tag, "TAG"), strings.ReplaceAll(stderr, tag, "TAG"), err
}

// steps sets the steps of a job, which follow each other without a gap.
func steps(job *gen.Job, ms ...int) {
	at := job.CreatedAt
	for i, d := range ms {
		next := at.Add(time.Duration(d) * time.Millisecond)
		job.Steps = append(job.Steps, gen.Step{Name: []string{"reserve", "site"}[i], State: gen.StepStateDone, StartedAt: new(at), EndedAt: &next})
		at = next
	}
}

// TestMeasure: the figures are those that the server recorded. A signup that took another road or
// failed is told, and is in no figure. All sites are removed, and no password is shown.
func TestMeasure(t *testing.T) {
	t.Parallel()
	f := &measureAPI{end: func(name string, job *gen.Job) {
		_, number, _ := strings.Cut(strings.TrimPrefix(name, "measure-"), "-")
		job.CreatedAt = madeAt.Add(time.Duration(number[len(number)-1]-'0') * time.Second)
		switch number {
		case "standby-1":
			steps(job, 10, 190)
		case "standby-2":
			steps(job, 20, 80)
		case "standby-3":
			steps(job, 30, 270)
		case "clone-1":
			steps(job, 1, 1999)
		case "clone-2":
			job.Road = new("new-site")
			steps(job, 1, 50000)
		case "clone-3":
			job.State, job.Error = gen.StateFailed, &gen.JobError{Code: "internal", Message: "It broke."}
		case "new-site-1", "new-site-2", "new-site-3":
			job.Road = nil // as of a former version
			steps(job, 1, 59999)
		}
	}}
	out, errs, err := f.call(t.Context(), "--signups", "3", "--country", "US", "--plan", "starter")
	if codeOf(err) != exitFailed {
		t.Errorf("with a failed signup: %v", err)
	}
	const want = `ROAD      STEP     N  P50     P95     P99     MAX     TENANTS/H  RATIO   NOTE
standby   whole    3  0.200   0.300   0.300   0.300   4696       1.00
          reserve     0.020   0.030   0.030   0.030
          site        0.190   0.270   0.270   0.270
clone     whole    1  2.000   2.000   2.000   2.000   1800       10.00   1 took new-site. 1 failed: It broke.
          reserve     0.001   0.001   0.001   0.001
          site        1.999   1.999   1.999   1.999
new-site  whole    3  60.000  60.000  60.000  60.000  174        300.00
          reserve     0.001   0.001   0.001   0.001
          site        59.999  59.999  59.999  59.999
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
	var removed []string
	for _, name := range []string{"clone-1", "clone-2", "new-site-1", "new-site-2", "new-site-3", "standby-1", "standby-2", "standby-3"} {
		removed = append(removed, "DELETE /tenants/measure-TAG-"+name+".example.com")
	}
	if diff := cmp.Diff(removed, f.calls); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(errs, "measure-TAG-clone-2.example.com: took new-site, and not clone\n") || !strings.Contains(errs, "measure-TAG-standby-1.example.com: standby 0.200 s\n") {
		t.Errorf("said %s", errs)
	}
	passwords := map[string]bool{}
	for _, body := range f.asked {
		if passwords[body.Password] = true; strings.Contains(out+errs, body.Password) {
			t.Error("a password was shown")
		}
		if !strings.HasSuffix(body.Email, ".invalid") || !strings.HasPrefix(body.Email, body.Subdomain) || value(body.Country) != "US" || value(body.Plan) != "starter" {
			t.Errorf("asked for %+v", body)
		}
	}
	if len(passwords) != 9 {
		t.Errorf("%d passwords for 9 sites", len(passwords))
	}
}

// TestMeasureJSON: the JSON has the same figures, and an empty list instead of null.
func TestMeasureJSON(t *testing.T) {
	t.Parallel()
	f := &measureAPI{end: func(_ string, job *gen.Job) { steps(job, 100) }}
	out, _, err := f.call(t.Context(), "--signups", "4", "--roads", "clone,standby", "--concurrency", "3", "-o", "json")
	var got measured
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	all := quantiles{0.1, 0.1, 0.1, 0.1}
	row := func(road nexus.Road) measuredRoad {
		return measuredRoad{Road: road, N: 4, Others: map[nexus.Road]int{}, Seconds: &all, Steps: []measuredStep{{"reserve", all}}, PerHour: 144000, Ratio: 1}
	}
	want := measured{Signups: 4, Concurrency: 3, Roads: []measuredRoad{row("clone"), row("standby")}, Left: map[string]string{}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	f = &measureAPI{end: func(_ string, job *gen.Job) { job.Road = new("new-site") }}
	out, _, err = f.call(t.Context(), "--signups", "1", "--roads", "clone", "--jq", ".roads[]|[.n,.seconds,.steps,.others]")
	if out != `[0,null,[],{"new-site":1}]`+"\n" || err != nil {
		t.Errorf("without figures: %s, %v", out, err)
	}
}

// TestQuantiles: quantiles are by the nearest rank, in whatever order the times are.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	times := func(n int) (all []time.Duration) {
		for i := range n {
			all = append(all, time.Duration(n-i)*time.Second)
		}
		return all
	}
	for n, want := range map[int]quantiles{1: {1, 1, 1, 1}, 2: {1, 2, 2, 2}, 3: {2, 3, 3, 3}, 10: {5, 10, 10, 10}, 20: {10, 19, 20, 20}, 100: {50, 95, 99, 100}, 200: {100, 190, 198, 200}} {
		all := times(n)
		if got := quantilesOf(all); got != want {
			t.Errorf("of 1 to %d: %+v, want %+v", n, got, want)
		}
		if all[0] != time.Duration(n)*time.Second {
			t.Errorf("the order of %d times was changed", n)
		}
	}
}

// TestMeasureStopped: whatever ends it, what was made is removed: by a cancel while the job runs,
// else by a removal. What could not be removed is told.
func TestMeasureStopped(t *testing.T) {
	t.Parallel()
	const site, cancel, remove = "measure-TAG-clone-1.example.com", "POST /jobs/id-measure-TAG-clone-1/cancel", "DELETE /tenants/measure-TAG-clone-1.example.com"
	for _, tc := range []struct {
		name   string
		state  gen.State  // of the job
		refuse string     // begin of the calls that are refused
		code   nexus.Code // with which code
		stopAt string     // begin of the call after which it is interrupted
		late   gen.State  // of a job whose cancel is refused
		calls  []string
		says   string
		code2  int // the exit code
	}{
		{name: "nothing", state: gen.StateSucceeded, calls: []string{remove}},
		{name: "interrupted while the job runs", state: gen.StateRunning, stopAt: "GET /jobs/id-", calls: []string{cancel}, says: "The measurement was interrupted.", code2: exitFailed},
		{name: "interrupted by the request", state: gen.StateRunning, stopAt: "POST /tenants", calls: []string{cancel}, says: "The measurement was interrupted.", code2: exitFailed},
		{name: "recorded and not answered, and it runs", state: gen.StateRunning, refuse: "POST /tenants", code: nexus.Unavailable, stopAt: "POST /tenants", calls: []string{cancel},
			says: "The measurement was interrupted.", code2: exitFailed},
		{name: "recorded and not answered, and it is made", state: gen.StateSucceeded, refuse: "POST /tenants", code: nexus.Unavailable, stopAt: "POST /tenants", calls: []string{remove},
			says: "The measurement was interrupted.", code2: exitFailed},
		{name: "refused", refuse: "POST /tenants", code: nexus.Conflict, says: "It said no.", code2: exitFailed},
		{name: "the removal is refused", state: gen.StateSucceeded, refuse: "DELETE /", code: nexus.Conflict, calls: []string{remove}, says: site + " may be left: It said no.", code2: exitFailed},
		{name: "the cancel is too late", state: gen.StateRunning, refuse: "POST /jobs/", code: nexus.Conflict, stopAt: "GET /jobs/id-", late: gen.StateSucceeded, calls: []string{remove, cancel},
			says: "The measurement was interrupted.", code2: exitFailed},
		{name: "the cancel is too late, and nothing is left", state: gen.StateRunning, refuse: "POST /jobs/", code: nexus.Conflict, stopAt: "GET /jobs/id-", late: gen.StateFailed,
			calls: []string{cancel}, says: "The measurement was interrupted.", code2: exitFailed},
		{name: "the cancel is too late, and the rollback failed", state: gen.StateRunning, refuse: "POST /jobs/", code: nexus.Conflict, stopAt: "GET /jobs/id-", late: gen.StateRollbackFailed,
			calls: []string{cancel}, says: site + " may be left: The job ended as rollback_failed.", code2: exitFailed},
		{name: "not answered, then refused", state: gen.StateSucceeded, refuse: "POST /tenants", code: "unavailable, then forbidden", calls: []string{remove}, says: "It said no.", code2: exitFailed},
		{name: "the rollback failed", state: gen.StateRollbackFailed, says: site + " may be left: The job ended as rollback_failed.", code2: exitFailed},
		{name: "no answer at first", refuse: "GET /benches", code: nexus.Unavailable, says: "It said no.", code2: exitAway},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			then := false
			f := &measureAPI{
				late: tc.late,
				end: func(_ string, job *gen.Job) {
					steps(job, 1)
					job.State = tc.state
				},
				refuse: func(call string) (code nexus.Code) {
					if tc.refuse != "" && strings.HasPrefix(call, tc.refuse) {
						if code = tc.code; then {
							code = nexus.Forbidden
						} else if first, _, two := strings.Cut(string(code), ", then "); two {
							code, then = nexus.Code(first), true
						}
					}
					return code
				},
				after: func(call string) {
					if tc.stopAt != "" && strings.HasPrefix(call, tc.stopAt) {
						stop()
					}
				},
			}
			_, errs, err := f.call(ctx, "--signups", "1", "--roads", "clone")
			if err != nil {
				errs += explain(err).Error()
			}
			if diff := cmp.Diff(tc.calls, f.calls); diff != "" || !strings.Contains(errs, tc.says) {
				t.Errorf("%s\nsaid %s", diff, errs)
			}
			if code := codeOf(err); code != tc.code2 {
				t.Errorf("exit %d, want %d: %v", code, tc.code2, err)
			}
		})
	}
}

// TestMeasureAgain: a signup that is not answered is sent again with the same key.
func TestMeasureAgain(t *testing.T) {
	t.Parallel()
	first := true
	f := &measureAPI{end: func(_ string, job *gen.Job) { steps(job, 1) }}
	f.refuse = func(call string) (code nexus.Code) {
		if call == "POST /tenants" && first {
			first, code = false, nexus.Unavailable
		}
		return code
	}
	out, _, err := f.call(t.Context(), "--signups", "1", "--roads", "clone", "--jq", ".roads[].n")
	if err != nil || out != "1\n" || len(f.keys) != 2 || f.keys[0] != f.keys[1] || f.keys[0] == "" || !cmp.Equal(f.asked[0], f.asked[1]) || len(f.calls) != 1 {
		t.Errorf("%v, %s signups measured, the keys %v, then %v", err, out, f.keys, f.calls)
	}
}

// TestMeasureSettles: signups wait until the shelves are filled, except those that cannot be.
func TestMeasureSettles(t *testing.T) {
	t.Parallel()
	full := gen.Shelf{Kept: true, Target: 2, Shelved: 2}
	looks := 0
	f := &measureAPI{end: func(_ string, job *gen.Job) { steps(job, 1) }}
	f.shelf = func() gen.Shelf {
		if looks++; looks == 1 {
			return gen.Shelf{Kept: true, Target: 2, Shelved: 1}
		}
		if looks == 2 && len(f.asked) > 0 {
			t.Error("it signed up before the shelf was full")
		}
		return full
	}
	if _, _, err := f.call(t.Context(), "--signups", "1", "--roads", "standby"); err != nil || looks != 2 {
		t.Errorf("%v after %d looks", err, looks)
	}
	for name, tc := range map[string]struct {
		change func(*gen.Shelf)
		busy   bool
	}{
		"full":             {func(*gen.Shelf) {}, false},
		"not full":         {func(s *gen.Shelf) { s.Shelved = 1 }, true},
		"more is made":     {func(s *gen.Shelf) { s.Making = 1 }, true},
		"one is taken":     {func(s *gen.Shelf) { s.Popped = 1 }, false},
		"one is dropped":   {func(s *gen.Shelf) { s.Reaping = 1 }, true},
		"drained":          {func(s *gen.Shelf) { s.Shelved, s.Drained = 0, true }, false},
		"no longer kept":   {func(s *gen.Shelf) { s.Shelved, s.Kept = 0, false }, false},
		"cannot be filled": {func(s *gen.Shelf) { s.Shelved, s.Failures = 0, 3 }, false},
	} {
		s := full
		if tc.change(&s); busyShelf(s) != tc.busy {
			t.Errorf("%s: %t", name, !tc.busy)
		}
	}
}

// TestMeasureWrong: a wrong call asks the API for nothing.
func TestMeasureWrong(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"--signups 0":         "--signups must be 1 or more",
		"--concurrency 0":     "--concurrency must be 1 or more",
		"--gap -1s":           "--gap must not be negative",
		"--roads walk":        `There is no road "walk"`,
		"--roads clone,clone": "The road clone comes twice",
		"--roads=":            "--roads needs a road",
		"extra":               "an argument too many",
	} {
		f := &measureAPI{}
		_, _, err := f.call(t.Context(), strings.Fields(args)...)
		if codeOf(err) != exitUsage || !strings.Contains(err.Error(), says) || len(f.asked) > 0 {
			t.Errorf("%s: %v", args, err)
		}
	}
}
