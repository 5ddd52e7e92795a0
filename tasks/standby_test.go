package tasks_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// newClaimFixture is a provision that has popped the standby of another job.
func newClaimFixture(t *testing.T) *fixture {
	f := newFixture(t, nexus.KindProvision)
	f.kit.Job.Take(nexus.Way{Road: nexus.RoadStandby, Template: "plain-1", Standby: maker, DB: maker.Database(install)})
	f.kit.Job.Bench = "main"
	return f
}

// said returns what was done, with short names of the databases.
func (f *fixture) said() []string {
	var out []string
	for _, line := range f.log {
		out = append(out, strings.NewReplacer(job.Database(install), "own", maker.Database(install), "its").Replace(line))
	}
	return out
}

// TestClaim: a site whose road is standby is that standby. If it cannot be used, the site is
// made by a longer road in the same attempt: what the job may have got is removed first, and
// the road and the job's own database are recorded before anything is made.
func TestClaim(t *testing.T) {
	t.Parallel()
	fails := func(code nexus.Code) error { return &nexus.Error{Code: code, Op: "bench", Msg: "It broke."} }
	skips := nexus.Result{Skipped: true, Note: "It is not there."}
	own := job.Database(install)
	clone, long := nexus.Way{Road: nexus.RoadClone, Template: "plain-2", DB: own}, nexus.Way{Road: nexus.RoadNewSite, DB: own}
	const detour, copied = "A site that was kept ready could not be used, so this takes longer. ", " Copied from the template plain-2."
	const asks = "divert own plain erpnext nexus_core?"
	for _, tc := range []struct {
		name    string
		tries   int // attempts that have ended
		answers map[nexus.OpName]nexus.Result
		errs    map[nexus.OpName]error
		over    bool // the step's time is over
		records error
		ways    []nexus.Way
		want    []string
		note    string
		code    nexus.Code
	}{
		{name: "claimed", want: []string{"claim its"}, note: "It was kept ready, as a copy of the template plain-1."},
		{name: "claimed by the second attempt", tries: 1, want: []string{"claim its"}, note: "It was kept ready, as a copy of the template plain-1."},
		{name: "it cannot be used", answers: map[nexus.OpName]nexus.Result{nexus.OpClaim: skips}, ways: []nexus.Way{clone},
			want: []string{"claim its", asks, "clone own"}, note: detour + "It is not there." + copied},
		{name: "it cannot be used, without a word why", answers: map[nexus.OpName]nexus.Result{nexus.OpClaim: {Skipped: true}}, ways: []nexus.Way{clone},
			want: []string{"claim its", asks, "clone own"}, note: detour + "The bench did not say why." + copied},
		{name: "it cannot be used, and there is no template", answers: map[nexus.OpName]nexus.Result{nexus.OpClaim: skips}, ways: []nexus.Way{long},
			want: []string{"claim its", asks, "new_site own"}, note: detour + "It is not there."},
		{name: "neither it nor the template can be used", answers: map[nexus.OpName]nexus.Result{nexus.OpClaim: skips, nexus.OpClone: {Skipped: true, Note: "It is old."}},
			ways: []nexus.Way{clone, long}, want: []string{"claim its", asks, "clone own", "withdraw plain-2", "divert own", "new_site own"},
			note: detour + "It is not there. The template plain-2 could not be copied either. It is old."},
		{name: "it cannot be used, and Redis is away", answers: map[nexus.OpName]nexus.Result{nexus.OpClaim: skips}, records: fails(nexus.Unavailable),
			want: []string{"claim its", asks}, code: nexus.Unavailable},
		{name: "it breaks", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Internal)}, ways: []nexus.Way{clone},
			want: []string{"claim its", "drop_site its", asks, "clone own"}, note: detour + "It broke." + copied},
		{name: "it takes too long", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Timeout)}, ways: []nexus.Way{clone},
			want: []string{"claim its", "drop_site its", asks, "clone own"}, note: detour + "It broke." + copied},
		{name: "it breaks, and the drop fails", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Internal), nexus.OpDropSite: fails(nexus.Unavailable)},
			want: []string{"claim its", "drop_site its"}, code: nexus.Unavailable},
		{name: "it breaks, and Redis is away", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Internal)}, records: fails(nexus.Unavailable),
			want: []string{"claim its", "drop_site its", asks}, code: nexus.Unavailable},
		{name: "it breaks, and then the bench is away", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Internal), nexus.OpClone: fails(nexus.Unavailable)}, ways: []nexus.Way{clone},
			want: []string{"claim its", "drop_site its", asks, "clone own"}, code: nexus.Unavailable},
		{name: "the step takes too long", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Timeout)}, over: true, want: []string{"claim its"}, code: nexus.Timeout},
		{name: "the bench is away", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Unavailable)}, want: []string{"claim its"}, code: nexus.Unavailable},
		{name: "a newer job", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Fenced)}, want: []string{"claim its"}, code: nexus.Fenced},
		{name: "canceled", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.CodeCanceled)}, want: []string{"claim its"}, code: nexus.CodeCanceled},
		{name: "the name is somebody else's", errs: map[nexus.OpName]error{nexus.OpClaim: fails(nexus.Conflict)}, want: []string{"claim its"}, code: nexus.Conflict},
		{name: "the third attempt", tries: 2, ways: []nexus.Way{long}, want: []string{"drop_site its", "divert own", "new_site own"}, note: detour + "It failed before."},
		{name: "the third attempt, and the drop fails", tries: 2, errs: map[nexus.OpName]error{nexus.OpDropSite: fails(nexus.Unavailable)},
			want: []string{"drop_site its"}, code: nexus.Unavailable},
		{name: "the third attempt, and Redis is away", tries: 2, records: fails(nexus.Unavailable), want: []string{"drop_site its", "divert own"}, code: nexus.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newClaimFixture(t)
			f.ways, f.recordsFail = tc.ways, tc.records
			f.kit.Job.Steps = []nexus.Step{{Name: "reserve"}, {Name: "site", Attempts: tc.tries}}
			f.answer = func(op nexus.Op) (nexus.Result, error) { return tc.answers[op.Args.Op()], tc.errs[op.Args.Op()] }
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if tc.over {
				stop()
			}
			err := f.step("site").Do(ctx, &f.kit)
			if nexus.CodeOf(err) != tc.code {
				t.Errorf("answered %v, want %q", err, tc.code)
			}
			if diff := cmp.Diff(tc.want, f.said()); diff != "" {
				t.Error(diff)
			}
			for i, op := range f.ops {
				name := op.Args.Op()
				if short := name == nexus.OpClaim || name == nexus.OpClone; f.limits[i] != short || op.Room != "" || op.Owner != job || op.Site != "acme.example.com" || op.Gen != gen {
					t.Errorf("%s with a deadline of its own: %t, in the envelope %+v", name, f.limits[i], op)
				}
			}
			last := ""
			if len(f.notes) > 0 {
				last = f.notes[len(f.notes)-1]
			}
			if last != tc.note && tc.code == "" || strings.Contains(last, "  ") || last != strings.TrimSpace(last) {
				t.Errorf("noted %q", f.notes)
			}
		})
	}
}

// TestClaimArgs: a claim names the standby and its maker, and has what the site's config
// needs; a job without such a plan asks for nothing.
func TestClaimArgs(t *testing.T) {
	t.Parallel()
	f := newClaimFixture(t)
	if err := f.do("site"); err != nil {
		t.Fatal(err)
	}
	plan, _ := nexus.FindPlan("starter")
	f.wantArgs(nexus.Claim{Standby: "standby-fedcba98", Maker: maker, Plan: nexus.ApplyPlan{Plan: "starter", Users: plan.Users, StorageBytes: plan.StorageBytes,
		HostName: "https://acme.example.com", Country: "Germany", Language: "de", TimeZone: "Europe/Berlin", Currency: "EUR"}})
	none := newClaimFixture(t) // a record that somebody changed: the bench has no such standby
	none.kit.Job.Standby = ""
	if err := none.do("site"); err != nil {
		t.Fatal(err)
	}
	if args, _ := none.ops[0].Args.(nexus.Claim); args.Standby != "standby-" || args.Maker != "" {
		t.Errorf("asked for %+v", args)
	}
	bad := newClaimFixture(t)
	bad.kit.Job.Spec.Plan = "none"
	if err := bad.do("site"); nexus.CodeOf(err) != nexus.Invalid || len(bad.log) > 0 {
		t.Errorf("answered %v after %q", err, bad.log)
	}
}

// TestDatabaseOfLaterSteps: the steps after site, and the undo, work on the standby's
// database; after a detour on the job's own.
func TestDatabaseOfLaterSteps(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		skipped bool
		want    string
	}{
		{"claimed", false, "its"},
		{"after a detour", true, "own"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newClaimFixture(t)
			f.ways = []nexus.Way{{Road: nexus.RoadClone, Template: "plain-2", DB: job.Database(install)}}
			f.answer = func(op nexus.Op) (nexus.Result, error) {
				return nexus.Result{Skipped: tc.skipped && op.Args.Op() == nexus.OpClaim, Changed: true}, nil
			}
			if err := f.step("site").Do(t.Context(), &f.kit); err != nil {
				t.Fatal(err)
			}
			f.log = nil
			for _, name := range []nexus.StepName{"apps", "company", "user", "plan", "api_key", "verify", "activate"} {
				if err := f.do(name); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
			if err := f.step("site").Undo(t.Context(), &f.kit); err != nil {
				t.Fatal(err)
			}
			if len(f.log) < 7 || slices.ContainsFunc(f.said(), func(s string) bool { return !strings.HasSuffix(s, " "+tc.want) }) {
				t.Errorf("asked %q, want the database %q", f.said(), tc.want)
			}
		})
	}
}

func newStandbyFixture(t *testing.T) *fixture {
	f := newFixture(t, nexus.KindStandby)
	f.kit.Job.Site = nexus.StandbyName(job)
	f.kit.Job.Spec = nexus.Spec{Template: nexus.TemplatePlain, Apps: []string{"erpnext", "nexus_core?"}}
	f.kit.Job.Road, f.kit.Job.Template, f.kit.Input = nexus.RoadClone, "plain-1", ""
	return f
}

// TestStandby checks the whole process: a copy of the template in the room of standbys.
func TestStandby(t *testing.T) {
	t.Parallel()
	f := newStandbyFixture(t)
	for _, name := range tasks.Steps(nexus.KindStandby) {
		if err := f.do(name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if f.reserved != [2]string{"main", job.Database(install)} || !slices.Equal(f.keys, []string{"plain erpnext nexus_core?"}) {
		t.Errorf("reserved %q, for the templates %q", f.reserved, f.keys)
	}
	f.wantArgs(nexus.Clone{Template: "plain-1", AdminPassword: "Admin-Pass-1"}, nexus.Shelve{})
	for _, op := range f.ops {
		if op.Site != "standby-01234567" || op.Room != nexus.RoomStandby || op.DB != f.reserved[1] || op.Owner != job || op.Gen != gen {
			t.Errorf("%s in the envelope %+v", op.Args.Op(), op)
		}
	}
	if f.notes != nil {
		t.Errorf("noted %q", f.notes)
	}
}

// TestStandbyFails: a step of a standby's job returns the errors of bench and records. There
// is no longer road to a standby.
func TestStandbyFails(t *testing.T) {
	t.Parallel()
	away := &nexus.Error{Code: nexus.Unavailable, Op: "bench", Msg: "Away."}
	for _, tc := range []struct {
		name    string
		step    nexus.StepName
		road    nexus.Road
		skips   string // a note
		fails   error
		records error
		want    []string
		code    nexus.Code
		msg     string
	}{
		{name: "no template", step: "site", road: nexus.RoadNewSite, code: nexus.Conflict, msg: "There is no template that a standby could be copied from."},
		{name: "a template that cannot be used", step: "site", road: nexus.RoadClone, skips: "It is old.", want: []string{"clone own", "withdraw plain-1"},
			code: nexus.Conflict, msg: "The template cannot be copied. It is old."},
		{name: "a template that cannot be used, without a word why", step: "site", road: nexus.RoadClone, skips: " ", want: []string{"clone own", "withdraw plain-1"},
			code: nexus.Conflict, msg: "The template cannot be copied."},
		{name: "a template that cannot be used, and Redis is away", step: "site", road: nexus.RoadClone, skips: "It is old.", records: away,
			want: []string{"clone own", "withdraw plain-1"}, code: nexus.Unavailable, msg: "Away."},
		{name: "the copy", step: "site", road: nexus.RoadClone, fails: away, want: []string{"clone own"}, code: nexus.Unavailable, msg: "Away."},
		{name: "the shelf", step: "shelve", road: nexus.RoadClone, fails: away, want: []string{"shelve own"}, code: nexus.Unavailable, msg: "Away."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newStandbyFixture(t)
			f.kit.Job.Road, f.kit.Job.DB, f.recordsFail = tc.road, job.Database(install), tc.records
			f.answer = func(nexus.Op) (nexus.Result, error) {
				return nexus.Result{Skipped: tc.skips != "", Note: strings.TrimSpace(tc.skips)}, tc.fails
			}
			err := f.do(tc.step)
			e, _ := errors.AsType[*nexus.Error](err)
			if e == nil || e.Code != tc.code || e.Msg != tc.msg {
				t.Errorf("answered %v", err)
			}
			if diff := cmp.Diff(tc.want, f.said()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStandbyUndo: what a standby's job made is dropped in the room of standbys; nothing is
// asked if it made nothing.
func TestStandbyUndo(t *testing.T) {
	t.Parallel()
	f := newStandbyFixture(t)
	undo := f.step("site").Undo
	if err := undo(t.Context(), &f.kit); err != nil || len(f.ops) > 0 {
		t.Errorf("before it was reserved: %v, %v", f.ops, err)
	}
	f.kit.Job.DB = job.Database(install)
	if err := undo(t.Context(), &f.kit); err != nil {
		t.Fatal(err)
	}
	f.wantArgs(nexus.DropSite{})
	if op := f.ops[0]; op.Room != nexus.RoomStandby || op.Site != "standby-01234567" || op.Owner != job || op.DB != job.Database(install) {
		t.Errorf("dropped %+v", op)
	}
}
