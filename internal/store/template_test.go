package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

var (
	erp     = []string{"erpnext", "hrms?"}
	erpKey  = nexus.TemplatePlain.Key(erp)
	bareKey = nexus.TemplatePlain.Key(nil)
)

func madeTemplate(name nexus.SiteName, apps []string, minute int, problem string) nexus.Template {
	return nexus.Template{Name: name, DB: "nx" + string(name), Job: "0", Spec: nexus.TemplatePlain, Apps: apps, Problem: problem,
		MadeAt: time.Date(2026, 11, 29, 9, minute, 0, 0, time.UTC)}
}

// build is the submission of a template job.
func build(apps []string) store.Submission {
	sub := store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindTemplate, Actor: "op", Steps: steps, GiveUpAfter: 24 * time.Hour,
		Spec: nexus.Spec{Template: nexus.TemplatePlain, Apps: apps}, Build: nexus.TemplatePlain.Key(apps)}
	sub.Site = nexus.TemplateName(nexus.TemplatePlain, sub.ID)
	return sub
}

func (f *fixture) offer(t testing.TB, bench string, list ...nexus.Template) {
	t.Helper()
	if err := f.OfferTemplates(t.Context(), bench, list); err != nil {
		t.Fatal(err)
	}
}

// offered lists the names of templates, with the bench, and a star for those that are offered.
func (f *fixture) offered(t testing.TB) (out []string) {
	t.Helper()
	all, err := f.Templates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range all {
		out = append(out, fmt.Sprintf("%s/%s%s", each.Bench, each.Name, map[bool]string{true: "*"}[each.Offered]))
	}
	return out
}

// road takes a new provision and reserves with these keys.
func (f *fixture) road(t testing.TB, site nexus.SiteName, bench string, keys ...string) (*store.Lease, [2]string) {
	t.Helper()
	lease, job := f.take(t, f.submit(t, submission(site)).ID)
	way, err := lease.Reserve(t.Context(), bench, "nx"+string(site[:1]), keys...)
	road, template := way.Road, way.Template
	if err != nil {
		t.Fatal(err)
	}
	if row, now := f.tenant(t, site), f.job(t, job.ID); row.Road != road || row.Template != template || now.Road != road || now.Template != template {
		t.Errorf("reserve answers %s %s; the row has %s %s, the record %s %s", road, template, row.Road, row.Template, now.Road, now.Template)
	}
	return lease, [2]string{string(road), string(template)}
}

func wantRoad(t testing.TB, got [2]string, road nexus.Road, template string) {
	t.Helper()
	if got != [2]string{string(road), template} {
		t.Errorf("the road %q, want %s %s", got, road, template)
	}
}

// TestOffers: for each key the newest template without a problem is offered on its bench.
func TestOffers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.offer(t, "main")
		for _, bench := range []string{"main", "other"} {
			if err := f.AnnounceBench(t.Context(), bench); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.offered(t); len(got) != 0 {
			t.Fatalf("%v before there are any", got)
		}
		first := []nexus.Template{madeTemplate("old", erp, 1, ""), madeTemplate("new", erp, 3, ""), madeTemplate("ill", erp, 4, "The app erpnext was upgraded."),
			madeTemplate("bare", nil, 2, "")}
		f.offer(t, "main", first...)
		f.offer(t, "other", madeTemplate("there", erp, 9, ""))
		want := []string{"main/old", "main/new*", "main/ill", "main/bare*", "other/there*"}
		sorted := cmpopts.SortSlices(func(a, b string) bool { return a < b })
		if diff := cmp.Diff(want, f.offered(t), sorted); diff != "" {
			t.Fatal(diff)
		}
		all, _ := f.Templates(t.Context())
		for _, each := range all {
			if each.Name == "ill" && !cmp.Equal(each.Template, first[2]) {
				t.Errorf("read back as %+v", each)
			}
		}
		if err := f.WithdrawTemplate(t.Context(), "main", "new"); err != nil {
			t.Fatal(err)
		}
		want[1] = "main/new"
		if diff := cmp.Diff(want, f.offered(t), sorted); diff != "" {
			t.Fatalf("withdrawn: %s", diff)
		}
		_, got := f.road(t, "a.localhost", "main", erpKey)
		wantRoad(t, got, nexus.RoadNewSite, "")
		f.offer(t, "main", first[0])
		if diff := cmp.Diff([]string{"main/old*", "other/there*"}, f.offered(t), sorted); diff != "" {
			t.Fatalf("offered anew: %s", diff)
		}
		_, got = f.road(t, "b.localhost", "main", bareKey) // no longer offered
		wantRoad(t, got, nexus.RoadNewSite, "")
	})
}

// TestRoadIsChosenOnce: reserve chooses the first key that is offered; a repeated call
// answers as the first one, whatever is offered then.
func TestRoadIsChosenOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) { // two slots on each bench
		f.offer(t, "main", madeTemplate("erp", erp, 1, ""), madeTemplate("bare", nil, 2, ""))
		again := func(lease *store.Lease, bench string, want [2]string) {
			t.Helper()
			way, err := lease.Reserve(t.Context(), bench, "nx1", erpKey, bareKey)
			if got := [2]string{string(way.Road), string(way.Template)}; err != nil || got != want {
				t.Errorf("asked again: %q, %v, want %q", got, err, want)
			}
		}
		cloned, best := f.road(t, "a.localhost", "main", "plain nothing", erpKey, bareKey)
		wantRoad(t, best, nexus.RoadClone, "erp")
		made, long := f.road(t, "b.localhost", "main", "plain nothing")
		wantRoad(t, long, nexus.RoadNewSite, "")
		_, none := f.road(t, "c.localhost", "other", erpKey)
		wantRoad(t, none, nexus.RoadNewSite, "") // the bench has no template
		f.offer(t, "main", madeTemplate("later", erp, 5, ""))
		again(cloned, "main", best)
		again(made, "main", long)
		unasked, never := f.road(t, "d.localhost", "other") // by a step that knows no templates
		wantRoad(t, never, "", "")
		if _, err := unasked.Reserve(t.Context(), "other", "nx1"); err != nil {
			t.Error(err)
		}
	})
}

// TestDivert: a detour is written to the job and to the row of its tenant, and is what a
// repeated reserve answers.
func TestDivert(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.offer(t, "main", madeTemplate("erp", erp, 1, ""))
		lease, _ := f.road(t, "a.localhost", "main", erpKey)
		if _, err := lease.Divert(t.Context(), "nxa"); err != nil {
			t.Fatal(err)
		}
		row := f.tenant(t, "a.localhost")
		if job := f.job(t, row.MadeBy); row.Road != nexus.RoadNewSite || row.Template != "" || job.Road != nexus.RoadNewSite || job.Template != "" {
			t.Errorf("the row has %s %s, the record %s %s", row.Road, row.Template, job.Road, job.Template)
		}
		if way, err := lease.Reserve(t.Context(), "main", "nxa", erpKey); err != nil || way != (nexus.Way{Road: nexus.RoadNewSite, DB: "nxa"}) {
			t.Errorf("reserved again: %+v, %v", way, err)
		}
	})
}

// TestOneBuildAtATime: each key has one live job that builds it, until that job has ended.
func TestOneBuildAtATime(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		busy := func(why string) {
			t.Helper()
			before := f.dump(t)
			_, _, err := f.Submit(t.Context(), build(erp))
			e, _ := errors.AsType[*nexus.Error](err)
			if e == nil || e.Code != nexus.Conflict || e.Reason != nexus.ReasonBusy || e.Msg != "A job builds this template already; wait for its end, or cancel it first." {
				t.Errorf("%s: %v", why, err)
			}
			if diff := cmp.Diff(before, f.dump(t)); diff != "" {
				t.Errorf("%s: a refusal stored something:\n%s", why, diff)
			}
		}
		sub := build(erp)
		sub.IdempotencyKey, sub.Fingerprints = "op/once", []string{"k1=aa"}
		job := f.submit(t, sub)
		busy("queued")
		f.submit(t, build(nil))
		again := build(erp)
		again.IdempotencyKey, again.Fingerprints = sub.IdempotencyKey, sub.Fingerprints
		if same, replay, err := f.Submit(t.Context(), again); err != nil || !replay || same.ID != job.ID {
			t.Errorf("the same request again: %s, %t, %v", same.ID, replay, err)
		}
		for _, state := range []nexus.State{nexus.Succeeded, nexus.Failed, nexus.RollbackFailed} {
			f.ended(t, job.ID, state)
			if state == nexus.RollbackFailed {
				busy("parked")
				if _, err := f.Resume(t.Context(), job.ID, "op"); err != nil {
					t.Fatal(err)
				}
				busy("resumed")
				f.tick(t)
				f.ended(t, job.ID, nexus.Canceled)
			}
			job = f.submit(t, build(erp))
		}
		if end, err := f.Cancel(t.Context(), job.ID, "op"); err != nil || !strings.HasSuffix(end.Error.Action, "You can ask for it again whenever you like.") {
			t.Fatalf("%+v, %v", end.Error, err)
		}
		lost := f.submit(t, build(erp))
		lease, _ := f.take(t, lost.ID)
		f.rdb.Del(t.Context(), "{nexus}:job:"+string(lost.ID))
		f.submit(t, build(erp)) // the record of the former one is gone
		if err := lease.GiveUp(t.Context()); !errors.Is(err, nexus.ErrFenced) {
			t.Errorf("a job without a record: %v", err)
		}
		busy("the next one")
	})
}

// TestLastBuild: the last job that built a template on a bench is known, as long as its
// record.
func TestLastBuild(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		on := func(bench string, apps []string) nexus.Job {
			t.Helper()
			sub := build(apps)
			sub.Bench = bench
			return f.submit(t, sub)
		}
		want := func(bench string, id nexus.JobID) {
			t.Helper()
			if job, err := f.LastBuild(t.Context(), bench, erpKey); err != nil || job.ID != id {
				t.Errorf("the last on %s: %s, %v, want %s", bench, job.ID, err, id)
			}
		}
		want("main", "")
		first := on("main", erp)
		other := on("north", erp) // each bench has its own
		f.ended(t, first.ID, nexus.Failed)
		second := on("main", erp)
		on("main", nil)
		want("main", second.ID)
		want("north", other.ID)
		if second.Bench != "main" {
			t.Errorf("recorded for the bench %q", second.Bench)
		}
		_, _, _, err := f.Take(t.Context(), other.ID, other.Dispatch, &store.Able{Bench: "main", Steps: []string{"template/one", "template/two"}})
		if foreign, ok := errors.AsType[*store.ForeignError](err); !ok || !strings.Contains(foreign.Why, "north") {
			t.Errorf("a worker of another bench: %v", err)
		}
		f.rdb.Del(t.Context(), "{nexus}:job:"+string(second.ID))
		want("main", "")
	})
}

// TestTemplateHasNoTenant: a template job makes no tenant's row at any moment, and takes no
// name.
func TestTemplateHasNoTenant(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		job := f.submit(t, build(erp))
		if job.Owner != job.ID || job.Kind != nexus.KindTemplate || job.Spec.Template != nexus.TemplatePlain {
			t.Errorf("recorded %+v", job)
		}
		none := func(when string) {
			t.Helper()
			rows, _, err := f.Tenants(t.Context(), store.TenantFilter{})
			if free, _ := f.SiteFree(t.Context(), job.Site); err != nil || len(rows) > 0 || !free {
				t.Errorf("%s: %v, free %t, %v", when, rows, free, err)
			}
		}
		none("recorded")
		lease, _ := f.take(t, job.ID)
		if err := lease.Slot(t.Context(), "main", "nxt"); err != nil {
			t.Fatal(err)
		}
		none("reserved")
		if got := f.job(t, job.ID); got.Bench != "main" || got.DB != "nxt" || got.Road != "" {
			t.Errorf("reserved as %+v", got)
		}
		job.State = nexus.Succeeded
		if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		none("ended")
		if got, _, err := f.Jobs(t.Context(), store.JobFilter{Kind: nexus.KindTemplate, State: nexus.Succeeded}); err != nil || len(got) != 1 {
			t.Errorf("listed %v, %v", got, err)
		}
	})
}

// TestTemplateWaits: template jobs have slots of their own: one, and another while no other
// job is on the bench. They take no signup's place, and none takes theirs. They wait on a
// paused bench, except for a rollback.
func TestTemplateWaits(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) { // two slots
		f.bench(t)
		if err := f.mustLease(t, f.submit(t, build(nil)).ID).Slot(t.Context(), "main", "nxt"); err != nil {
			t.Fatal(err)
		}
		if all, err := f.Benches(t.Context()); err != nil || all[0].Used != 1 {
			t.Errorf("the bench seems idle: %+v, %v", all, err)
		}
		undoing, failing := f.take(t, f.submit(t, build(erp)).ID)
		if err := undoing.Slot(t.Context(), "main", "nxu"); err != nil {
			t.Errorf("a second one on an idle bench: %v", err)
		}
		lease, job := f.take(t, f.submit(t, build([]string{"hrms"})).ID)
		wait := func(reason nexus.Wait) {
			t.Helper()
			err := lease.Slot(t.Context(), "main", "nxv")
			if e, _ := errors.AsType[*nexus.Error](err); e == nil || e.Wait != reason {
				t.Errorf("a template job: %v, want it to wait for %s", err, reason)
			}
		}
		wait(nexus.WaitCapacity)
		for _, site := range []nexus.SiteName{"a.localhost", "b.localhost"} { // both slots are free for signups
			if _, _, err := f.reserve(t, site); err != nil {
				t.Errorf("a signup beside two template jobs: %v", err)
			}
		}
		failing.State, failing.WaitingFor = nexus.RollingBack, nexus.WaitRetry
		if err := undoing.Wait(t.Context(), &failing, time.Second, nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		wait(nexus.WaitCapacity) // one is there, and the bench is not idle
		if err := f.SetBench(t.Context(), "main", nexus.BenchPaused, "op"); err != nil {
			t.Fatal(err)
		}
		wait(nexus.WaitBench)
		f.advance(2 * time.Second)
		f.tick(t)
		if _, _, taken, err := f.Take(t.Context(), failing.ID, f.job(t, failing.ID).Dispatch, nil); err != nil || taken != store.TakeOK {
			t.Errorf("the rollback of a template job on a paused bench: %s, %v", taken, err)
		}
		if err := f.SetBench(t.Context(), "main", nexus.BenchOpen, "op"); err != nil {
			t.Fatal(err)
		}
		if f.job(t, job.ID).State != nexus.Running {
			t.Errorf("it is %s", f.job(t, job.ID).State)
		}
	})
}

// TestTemplateOnATriedBench: while the breaker tries the bench with one job, no template job
// begins, and none is scheduled at each tick.
func TestTemplateOnATriedBench(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.bench(t)
		f.trip(t, "site")
		f.advance(10 * time.Minute)
		lease, job := f.take(t, f.submit(t, build(erp)).ID)
		wantCode(t, lease.Slot(t.Context(), "main", "nxt"), nexus.Limit)
		job.State, job.WaitingFor = nexus.Waiting, nexus.WaitBench
		if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		f.advance(time.Second)
		f.tick(t)
		if after := f.job(t, job.ID); after.Dispatch != 1 {
			t.Errorf("scheduled although it cannot begin: dispatch %d", after.Dispatch)
		}
		if _, _, err := f.reserve(t, "try.localhost"); err != nil {
			t.Errorf("the one that tries the bench: %v", err)
		}
	})
}

// TestTemplateAfterDeadOnes: the slots of template jobs whose workers died go to the next
// one, without an event.
func TestTemplateAfterDeadOnes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.bench(t)
		for _, apps := range [][]string{nil, erp} {
			if err := f.mustLease(t, f.submit(t, build(apps)).ID).Slot(t.Context(), "main", "nxt"); err != nil {
				t.Fatal(err)
			}
		}
		lease, job := f.take(t, f.submit(t, build([]string{"hrms"})).ID)
		wantCode(t, lease.Slot(t.Context(), "main", "nxv"), nexus.Limit)
		job.State, job.WaitingFor = nexus.Waiting, nexus.WaitCapacity
		if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		before := f.job(t, job.ID).Dispatch
		f.advance(25 * time.Second)
		f.tick(t)
		if after := f.job(t, job.ID).Dispatch; after != before+1 {
			t.Errorf("it still waits: dispatch %d, then %d", before, after)
		}
	})
}

// TestTemplateBesideDeadSignups: signups whose workers died do not count as jobs on the bench.
func TestTemplateBesideDeadSignups(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.bench(t)
		if _, _, err := f.reserve(t, "dead.localhost"); err != nil {
			t.Fatal(err)
		}
		if err := f.mustLease(t, f.submit(t, build(nil)).ID).Slot(t.Context(), "main", "nxt"); err != nil {
			t.Fatal(err)
		}
		second := f.mustLease(t, f.submit(t, build(erp)).ID)
		wantCode(t, second.Slot(t.Context(), "main", "nxu"), nexus.Limit)
		f.advance(21 * time.Second) // slots last 20 s
		if err := f.mustLease(t, f.submit(t, build([]string{"hrms"})).ID).Slot(t.Context(), "main", "nxv"); err != nil {
			t.Errorf("a template job: %v", err)
		}
		if err := second.Slot(t.Context(), "main", "nxu"); err != nil {
			t.Errorf("another, beside a dead signup: %v", err)
		}
	})
}
