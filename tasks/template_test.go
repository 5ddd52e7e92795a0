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

func newTemplateFixture(t *testing.T) *fixture {
	f := newFixture(t, nexus.KindTemplate)
	f.kit.Job.Site = nexus.TemplateName(nexus.TemplatePlain, job)
	f.kit.Job.Spec = nexus.Spec{Template: nexus.TemplatePlain, Apps: []string{"erpnext", "nexus_core?"}}
	f.kit.Input = ""
	return f
}

// TestTemplate checks the whole process: a site in the room of templates, which the bench
// lists and the registry offers at the end.
func TestTemplate(t *testing.T) {
	t.Parallel()
	f := newTemplateFixture(t)
	listed := []nexus.Template{{Name: "plain-1"}, {Name: "plain-2"}}
	f.answer = func(op nexus.Op) (nexus.Result, error) {
		if _, ok := op.Args.(nexus.Templates); ok {
			return nexus.Result{Templates: listed}, nil
		}
		return nexus.Result{Changed: true}, nil
	}
	for _, name := range tasks.Steps(nexus.KindTemplate) {
		if err := f.do(name); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if f.reserved != [2]string{"main", "nx9f3c3eb1bd439947eb762998"} || f.keys != nil {
		t.Errorf("reserved %q, for the templates %q", f.reserved, f.keys)
	}
	f.wantArgs(
		nexus.NewSite{}, // nobody gets the password of Administrator
		nexus.InstallApp{App: "erpnext"},
		nexus.InstallApp{App: "nexus_core", Optional: true},
		nexus.Freeze{Spec: nexus.TemplatePlain, Apps: []string{"erpnext", "nexus_core?"}},
		nexus.Templates{},
	)
	for _, op := range f.ops {
		if op.Site != "plain-01234567" || op.Room != nexus.RoomTemplates || op.DB != f.reserved[1] || op.Owner != job || op.Gen != gen {
			t.Errorf("%s in the envelope %+v", op.Args.Op(), op)
		}
	}
	if diff := cmp.Diff(listed, f.offered); diff != "" || len(f.notes) != 1 || !strings.Contains(f.notes[0], "wizard") {
		t.Errorf("offered %s, noted %q", diff, f.notes)
	}
}

// TestTemplateCompany: the template of a country has a company. If the wizard was interrupted
// the site is removed and made anew; an attempt that is not the first finds what is left of it.
func TestTemplateCompany(t *testing.T) {
	t.Parallel()
	made := func(force bool) []nexus.Args {
		return []nexus.Args{nexus.NewSite{}, nexus.InstallApp{App: "erpnext", Force: force}, nexus.InstallApp{App: "nexus_core", Optional: true, Force: force}}
	}
	setUp, drop := nexus.SetUp{Country: "DE", Chart: "SKR04"}, nexus.DropSite{}
	away := &nexus.Error{Code: nexus.Unavailable, Op: "bench", Msg: "Away."}
	for _, tc := range []struct {
		name  string
		again bool
		skips int // wizards that were interrupted
		fails nexus.OpName
		want  []nexus.Args
		code  nexus.Code
	}{
		{name: "done", want: []nexus.Args{setUp}},
		{name: "again", again: true, want: append(made(true), setUp)},
		{name: "interrupted", again: true, skips: 1, want: slices.Concat(made(true), []nexus.Args{setUp, drop}, made(true), []nexus.Args{setUp})},
		{name: "interrupted twice", skips: 2, want: slices.Concat([]nexus.Args{setUp, drop}, made(false), []nexus.Args{setUp, drop}), code: nexus.Internal},
		{name: "the wizard fails", fails: nexus.OpSetUp, want: []nexus.Args{setUp}, code: nexus.Unavailable},
		{name: "the site is not removed", skips: 1, fails: nexus.OpDropSite, want: []nexus.Args{setUp, drop}, code: nexus.Unavailable},
		{name: "the site is not made", again: true, fails: nexus.OpNewSite, want: made(true)[:1], code: nexus.Unavailable},
		{name: "an app fails", again: true, fails: nexus.OpInstallApp, want: made(true)[:2], code: nexus.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newTemplateFixture(t)
			f.kit.Job.Spec.Template, f.kit.Job.DB, f.kit.Again = "DE:SKR04", job.Database(install), tc.again
			f.answer = func(op nexus.Op) (nexus.Result, error) {
				name := op.Args.Op()
				if name == tc.fails {
					return nexus.Result{}, away
				}
				if name == nexus.OpSetUp {
					tc.skips--
				}
				return nexus.Result{Skipped: name == nexus.OpSetUp && tc.skips >= 0}, nil
			}
			if err := f.do("company"); nexus.CodeOf(err) != tc.code {
				t.Errorf("answered %v", err)
			}
			f.wantArgs(tc.want...)
		})
	}
}

// TestTemplatesOfASignup: a site is copied from a template of its country, of these from one
// that workers build if there is one, or from the plain one.
func TestTemplatesOfASignup(t *testing.T) {
	t.Parallel()
	company := []nexus.Step{{Name: "company"}}
	for _, tc := range []struct {
		country nexus.TemplateSpec
		built   []nexus.TemplateSpec
		want    []string
		steps   []nexus.Step
	}{
		{country: "US", built: []nexus.TemplateSpec{"US"}, want: []string{"plain a"}, steps: []nexus.Step{{Name: "site"}}}, // as former versions record it
		{want: []string{"plain a"}},
		{built: []nexus.TemplateSpec{"US", "plain"}, want: []string{"plain a"}},
		{country: "US", built: []nexus.TemplateSpec{"plain", "DE:SKR04"}, want: []string{"US a", "plain a"}},
		{country: "DE", built: []nexus.TemplateSpec{"US", "DE:SKR49", "DE:SKR04"}, want: []string{"DE:SKR49 a", "DE:SKR04 a", "DE a", "plain a"}},
		{country: "CH", want: []string{"CH a", "plain a"}},
	} {
		f := newFixture(t, nexus.KindProvision)
		f.kit.Job.Spec.Template, f.kit.Job.Spec.Apps, f.kit.Settings.Templates = tc.country, []string{"a"}, func() []nexus.TemplateSpec { return tc.built }
		if f.kit.Job.Steps = tc.steps; tc.steps == nil {
			f.kit.Job.Steps = company
		}
		if err := f.do("reserve"); err != nil || !slices.Equal(f.keys, tc.want) {
			t.Errorf("from %q, with %v: asked for %q, %v", tc.country, tc.built, f.keys, err)
		}
	}
}

// TestTemplateFails: a step of a template job returns the errors of bench and records.
func TestTemplateFails(t *testing.T) {
	t.Parallel()
	away := &nexus.Error{Code: nexus.Unavailable, Op: "bench", Msg: "Away."}
	for _, tc := range []struct {
		name    string
		step    nexus.StepName
		fails   nexus.OpName
		records error
		ops     int
	}{
		{name: "site", step: "site", fails: nexus.OpNewSite, ops: 1},
		{name: "freeze", step: "freeze", fails: nexus.OpFreeze, ops: 1},
		{name: "the list", step: "freeze", fails: nexus.OpTemplates, ops: 2},
		{name: "the offer", step: "freeze", records: away, ops: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newTemplateFixture(t)
			f.recordsFail = tc.records
			f.answer = func(op nexus.Op) (nexus.Result, error) {
				if op.Args.Op() == tc.fails {
					return nexus.Result{}, away
				}
				return nexus.Result{}, nil
			}
			if err := f.do(tc.step); !errors.Is(err, away) || len(f.ops) != tc.ops {
				t.Errorf("answered %v after %d operations", err, len(f.ops))
			}
		})
	}
}

// TestTemplateUndo: what a template job made is first withdrawn and then dropped, in the
// room of templates. Nothing is done if it made nothing.
func TestTemplateUndo(t *testing.T) {
	t.Parallel()
	f := newTemplateFixture(t)
	undo := func() {
		t.Helper()
		for _, name := range []nexus.StepName{"freeze", "site"} {
			if err := f.step(name).Undo(t.Context(), &f.kit); err != nil {
				t.Fatal(err)
			}
		}
	}
	if undo(); f.withdrawn != "" || len(f.ops) > 0 {
		t.Errorf("before it was reserved: withdrawn %q, %v", f.withdrawn, f.ops)
	}
	f.kit.Job.Bench, f.kit.Job.DB = "main", job.Database(install)
	for range 2 { // it may run twice
		f.ops, f.withdrawn = nil, ""
		undo()
		f.wantArgs(nexus.DropSite{})
		if f.withdrawn != "plain-01234567" || f.ops[0].Room != nexus.RoomTemplates || f.ops[0].Owner != job {
			t.Errorf("withdrawn %q, dropped %+v", f.withdrawn, f.ops[0])
		}
	}
	f.recordsFail = errors.New("away")
	if err := f.step("freeze").Undo(t.Context(), &f.kit); !errors.Is(err, f.recordsFail) {
		t.Errorf("answered %v", err)
	}
}

// TestTemplateKeys: only a provision asks for templates, for those with its apps.
func TestTemplateKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nexus.KindProvision)
	if err := f.do("reserve"); err != nil || !slices.Equal(f.keys, []string{"plain erpnext nexus_core?"}) {
		t.Errorf("asked for %q, %v", f.keys, err)
	}
}

// TestAskedRoad: if a road was asked for and another one is taken, the note of the step says so.
func TestAskedRoad(t *testing.T) {
	t.Parallel()
	const missed = "The road that was asked for, standby, could not be taken."
	for _, tc := range []struct {
		asked, took nexus.Road
		note        string
	}{
		{"", nexus.RoadClone, "Copied from the template plain-1."},
		{nexus.RoadClone, nexus.RoadClone, "Copied from the template plain-1."},
		{nexus.RoadStandby, nexus.RoadClone, missed + " Copied from the template plain-1."},
		{nexus.RoadStandby, nexus.RoadNewSite, missed},
		{nexus.RoadNewSite, nexus.RoadNewSite, ""},
		{nexus.RoadNewSite, "", ""}, // as a former version records it
	} {
		f := newFixture(t, nexus.KindProvision)
		f.kit.Job.Spec.Road, f.kit.Job.Road, f.kit.Job.Template = tc.asked, tc.took, "plain-1"
		if err := f.do("site"); err != nil {
			t.Error(err)
		}
		last := ""
		if len(f.notes) > 0 {
			last = f.notes[len(f.notes)-1]
		}
		if last != tc.note {
			t.Errorf("asked for %q, made by %q: noted %q, want %q", tc.asked, tc.took, f.notes, tc.note)
		}
	}
}

// TestClone: a site whose road is clone is a copy of its template. If it cannot be copied,
// it is made by new-site in the same attempt, which is recorded first.
func TestClone(t *testing.T) {
	t.Parallel()
	refused := func(code nexus.Code) error { return &nexus.Error{Code: code, Op: "bench", Msg: "It broke."} }
	clone, long := nexus.Clone{Template: "plain-1", AdminPassword: "Admin-Pass-1"}, nexus.NewSite{AdminPassword: "Admin-Pass-1"}
	for _, tc := range []struct {
		name      string
		tries     int // attempts that have ended
		answer    nexus.Result
		err       error
		over      bool // the step's time is over
		records   error
		want      []nexus.Args
		diverted  nexus.Road
		withdrawn nexus.SiteName
		note      string
		code      nexus.Code
	}{
		{name: "copied", want: []nexus.Args{clone}, note: "Copied from the template plain-1."},
		{name: "copied by the second attempt", tries: 1, want: []nexus.Args{clone}, note: "Copied from the template plain-1."},
		{name: "the template cannot be used", answer: nexus.Result{Skipped: true, Note: "Its apps were upgraded."}, want: []nexus.Args{clone, long},
			diverted: nexus.RoadNewSite, withdrawn: "plain-1", note: "The template plain-1 could not be copied, so this takes longer. Its apps were upgraded."},
		{name: "the template cannot be used, and Redis is away", answer: nexus.Result{Skipped: true}, records: refused(nexus.Unavailable),
			want: []nexus.Args{clone}, withdrawn: "plain-1", code: nexus.Unavailable},
		{name: "the copy fails", err: refused(nexus.Internal), want: []nexus.Args{clone, long}, diverted: nexus.RoadNewSite, withdrawn: "plain-1",
			note: "The template plain-1 could not be copied, so this takes longer. It broke."},
		{name: "the copy fails, and Redis is away", err: refused(nexus.Internal), records: refused(nexus.Unavailable), want: []nexus.Args{clone},
			withdrawn: "plain-1", code: nexus.Unavailable},
		{name: "the copy takes too long", err: refused(nexus.Timeout), want: []nexus.Args{clone, long}, diverted: nexus.RoadNewSite, withdrawn: "plain-1",
			note: "The template plain-1 could not be copied, so this takes longer. It broke."},
		{name: "the step takes too long", err: refused(nexus.Timeout), over: true, want: []nexus.Args{clone}, code: nexus.Timeout},
		{name: "the bench is away", err: refused(nexus.Unavailable), want: []nexus.Args{clone}, code: nexus.Unavailable},
		{name: "a newer job", err: refused(nexus.Fenced), want: []nexus.Args{clone}, code: nexus.Fenced},
		{name: "canceled", err: refused(nexus.CodeCanceled), want: []nexus.Args{clone}, code: nexus.CodeCanceled},
		{name: "the third attempt", tries: 2, want: []nexus.Args{long}, diverted: nexus.RoadNewSite,
			note: "The template plain-1 could not be copied, so this takes longer. It failed before."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindProvision)
			f.kit.Job.Road, f.kit.Job.Template, f.recordsFail = nexus.RoadClone, "plain-1", tc.records
			f.diverted = nexus.Way{Road: nexus.RoadNewSite, DB: job.Database(install)}
			f.kit.Job.Steps = []nexus.Step{{Name: "reserve"}, {Name: "site", Attempts: tc.tries}}
			f.answer = func(op nexus.Op) (nexus.Result, error) {
				if _, ok := op.Args.(nexus.Clone); ok {
					return tc.answer, tc.err
				}
				if f.diversions == nil {
					t.Errorf("%s before the detour is recorded", op.Args.Op())
				}
				return nexus.Result{Changed: true}, nil
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if tc.over {
				stop()
			}
			err := f.step("site").Do(ctx, &f.kit)
			if nexus.CodeOf(err) != tc.code {
				t.Errorf("answered %v, want %q", err, tc.code)
			}
			f.wantArgs(tc.want...)
			for i, op := range f.ops { // the copy has a short time, the rest of the step's is the other road's
				if _, short := op.Args.(nexus.Clone); f.limits[i] != short || op.Room != "" {
					t.Errorf("%s with a deadline of its own: %t, in the room %q", op.Args.Op(), f.limits[i], op.Room)
				}
			}
			var want [][]string
			if tc.diverted != "" {
				want = [][]string{{job.Database(install)}}
			}
			if diff := cmp.Diff(want, f.diversions); diff != "" || f.withdrawn != tc.withdrawn {
				t.Errorf("asked for other roads: %s, withdrawn %q", diff, f.withdrawn)
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

// TestAppsOfAClone: the apps of a copy came with the template. If a worker of a former
// version made the site by new-site, they are installed all the same.
func TestAppsOfAClone(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		road   nexus.Road
		answer nexus.Result
		note   string
	}{
		{name: "a copy", road: nexus.RoadClone, note: "They came with the template."},
		{name: "a standby", road: nexus.RoadStandby, note: "They came with the template."},
		{name: "made by a former version", road: nexus.RoadClone, answer: nexus.Result{Changed: true}},
		{name: "a bench without them", road: nexus.RoadClone, answer: nexus.Result{Skipped: true}, note: "This bench does not have erpnext, nexus_core; the site goes without."},
		{name: "another attempt after a detour", road: nexus.RoadNewSite},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nexus.KindProvision)
			f.kit.Job.Road = tc.road
			f.answer = func(nexus.Op) (nexus.Result, error) { return tc.answer, nil }
			if err := f.do("apps"); err != nil || strings.Join(f.notes, "") != tc.note {
				t.Errorf("%v, noted %q", err, f.notes)
			}
			if tc.road == nexus.RoadStandby {
				f.wantArgs()
				return
			}
			f.wantArgs(nexus.InstallApp{App: "erpnext"}, nexus.InstallApp{App: "nexus_core", Optional: true})
		})
	}
}
