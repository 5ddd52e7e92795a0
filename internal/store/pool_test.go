package store_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

var standbySteps = []nexus.StepName{"reserve", "site", "shelve"}

// making submits a job that makes a standby for a shelf of at most ten.
func (f *fixture) making(t testing.TB, apps []string) nexus.Job {
	t.Helper()
	return f.submit(t, store.MakeStandby("main", madeTemplate("plain-1", apps, 1, ""), "9f3c", 10, standbySteps, time.Hour))
}

// made ends a new job that makes a standby. Its steps took these times, and were started as
// often as that; its success puts it on the shelf.
func (f *fixture) made(t testing.TB, apps []string, end nexus.State, starts int, took ...time.Duration) nexus.JobID {
	t.Helper()
	lease, job := f.take(t, f.making(t, apps).ID)
	at := time.UnixMilli(1_790_000_000_000).UTC()
	for i := range job.Steps {
		job.Steps[i] = nexus.Step{Name: job.Steps[i].Name, State: nexus.StepDone, Starts: starts, StartedAt: &at, EndedAt: new(at.Add(append(took, 0, 0, 0)[i]))}
	}
	job.State = end
	if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
		t.Fatal(err)
	}
	return job.ID
}

// claim reserves with a new provision that has the step company.
func (f *fixture) claim(t testing.TB, site nexus.SiteName, keys ...string) (*store.Lease, nexus.Job, nexus.Way) {
	t.Helper()
	sub := submission(site)
	sub.Steps = []nexus.StepName{"one", "company"}
	lease, job := f.take(t, f.submit(t, sub).ID)
	way, err := lease.Reserve(t.Context(), "main", "nx-own", keys...)
	if err != nil {
		t.Fatal(err)
	}
	return lease, job, way
}

// shelf reads the shelf of a key; the zero one: there is none.
func (f *fixture) shelf(t testing.TB, key string) nexus.Shelf {
	t.Helper()
	all, err := f.Shelves(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s nexus.Shelf) bool { return s.Key == key })
	if i < 0 {
		return nexus.Shelf{}
	}
	return all[i]
}

// states lists the states of a shelf's standbys, the oldest first.
func states(s nexus.Shelf) (out []nexus.StandbyState) {
	for _, each := range s.Standbys {
		out = append(out, each.State)
	}
	return out
}

// end ends a job in a state.
func (f *fixture) end(t testing.TB, lease *store.Lease, job nexus.Job, state nexus.State) {
	t.Helper()
	job.State = state
	if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
		t.Fatal(err)
	}
}

// TestStandbyRecord: the job that makes a standby has no tenant; its standby is counted from
// the first moment, and has the database that the job's site gets.
func TestStandbyRecord(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		if all, err := f.Shelves(t.Context(), "main"); err != nil || all != nil {
			t.Errorf("shelves before there are any: %+v, %v", all, err)
		}
		job := f.making(t, erp)
		if job.Kind != nexus.KindStandby || job.Site != nexus.StandbyName(job.ID) || job.Owner != job.ID || job.Bench != "main" || job.Spec.Template != nexus.TemplatePlain ||
			!slices.Equal(job.Spec.Apps, erp) || job.Standby != "" || job.Road != "" {
			t.Errorf("recorded %+v", job)
		}
		shelf := f.shelf(t, erpKey)
		want := []nexus.ShelfStandby{{Job: job.ID, DB: job.ID.Database("9f3c"), Template: "plain-1", State: nexus.StandbyMaking, At: job.CreatedAt}}
		if diff := cmp.Diff(want, shelf.Standbys); diff != "" || !shelf.EmptyAt.Equal(job.CreatedAt) || shelf.Bench != "main" {
			t.Errorf("the shelf %+v\n%s", shelf, diff)
		}
		if free, err := f.SiteFree(t.Context(), job.Site); err != nil || !free {
			t.Errorf("it has a tenant's row: %v", err)
		}
	})
}

// TestMost: a shelf takes no more standbys than its submission allows; those that are popped
// or on another shelf do not count. A refusal stores nothing.
func TestMost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		submit := func() error {
			_, _, err := f.Submit(t.Context(), store.MakeStandby("main", madeTemplate("plain-1", erp, 1, ""), "9f3c", 2, standbySteps, time.Hour))
			return err
		}
		f.made(t, erp, nexus.Succeeded, 1)
		f.making(t, nil)
		if err := submit(); err != nil {
			t.Fatal(err)
		}
		before := f.dump(t)
		e, _ := errors.AsType[*nexus.Error](submit())
		if e == nil || e.Reason != nexus.ReasonBusy || e.Msg != "The shelf has as many standbys as it may." {
			t.Errorf("answered %v", e)
		}
		if diff := cmp.Diff(before, f.dump(t)); diff != "" {
			t.Errorf("a refusal stored something:\n%s", diff)
		}
		f.claim(t, "a.localhost", erpKey)
		if err := submit(); err != nil {
			t.Errorf("one of the two is popped: %v", err)
		}
	})
}

// TestPopIsAnsweredAgain: a reserve whose answer was lost pops no second standby, whatever
// the shelf holds then.
func TestPopIsAnsweredAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		first := f.made(t, erp, nexus.Succeeded, 1)
		f.advance(time.Second)
		second := f.made(t, erp, nexus.Succeeded, 1)
		lease, job, way := f.claim(t, "a.localhost", "plain nothing", erpKey)
		want := nexus.Way{Road: nexus.RoadStandby, Template: "plain-1", Standby: first, DB: first.Database("9f3c")}
		if way != want {
			t.Errorf("took %+v, want %+v", way, want)
		}
		if way, err := lease.Reserve(t.Context(), "main", "nx-other", bareKey); err != nil || way != want {
			t.Errorf("asked again: %+v, %v", way, err)
		}
		if now, row := f.job(t, job.ID), f.tenant(t, "a.localhost"); now.Standby != first || now.DB != want.DB || row.DB != want.DB || row.Road != nexus.RoadStandby || row.Template != "plain-1" {
			t.Errorf("recorded %+v, and for the tenant %+v", now, row)
		}
		got := f.shelf(t, erpKey).Standbys
		slices.SortFunc(got, func(a, b nexus.ShelfStandby) int { return strings.Compare(string(a.State), string(b.State)) })
		if len(got) != 2 || got[0].Job != first || got[0].Taker != job.ID || got[0].State != nexus.StandbyPopped || got[1].Job != second || got[1].State != nexus.StandbyShelved {
			t.Errorf("the shelf has %+v", got)
		}
	})
}

// TestWhoGetsAStandby: only a provision with the step company does; a worker of a version
// that knows no standbys leaves such a job alone.
func TestWhoGetsAStandby(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.made(t, erp, nexus.Succeeded, 1)
		_, road := f.road(t, "a.localhost", "main", erpKey)
		wantRoad(t, road, nexus.RoadNewSite, "")
		sub := submission("b.localhost")
		sub.Kind, sub.Steps = nexus.KindAdopt, []nexus.StepName{"one", "company"}
		lease, job := f.take(t, f.submit(t, sub).ID)
		if way, err := lease.Reserve(t.Context(), "main", "nx1", erpKey); err != nil || way.Road != nexus.RoadNewSite {
			t.Errorf("an adoption: %+v, %v", way, err)
		}
		f.end(t, lease, job, nexus.Failed)
		if _, _, way := f.claim(t, "c.localhost", erpKey); way.Road != nexus.RoadStandby {
			t.Errorf("a provision: %+v", way)
		}
	})
}

// TestBestTemplate: the key decides before the road. A copy of a better template is preferred
// to a standby of another one, and each shelf that was asked counts it.
func TestBestTemplate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		country := nexus.TemplateSpec("US").Key(erp)
		for _, key := range []string{country, erpKey} {
			if err := f.SetTarget(t.Context(), "main", key, 2); err != nil {
				t.Fatal(err)
			}
		}
		f.made(t, erp, nexus.Succeeded, 1)
		us := madeTemplate("us-1", erp, 1, "")
		us.Spec = "US"
		f.offer(t, "main", us, madeTemplate("plain-1", erp, 1, ""))
		if _, _, way := f.claim(t, "a.localhost", country, erpKey); way.Road != nexus.RoadClone || way.Template != "us-1" {
			t.Errorf("with a template of its country it took %+v", way)
		}
		if shelf := f.shelf(t, erpKey); shelf.Hits+shelf.Misses > 0 || shelf.Count(nexus.StandbyShelved) != 1 || f.shelf(t, country).Misses != 1 {
			t.Errorf("then the shelf of plain is %+v, that of the country %+v", shelf, f.shelf(t, country))
		}
		f.offer(t, "main", madeTemplate("plain-1", erp, 1, ""))
		if _, _, way := f.claim(t, "b.localhost", country, erpKey); way.Road != nexus.RoadStandby || way.Template != "plain-1" {
			t.Errorf("without one it took %+v", way)
		}
		if shelf := f.shelf(t, erpKey); shelf.Hits != 1 || f.shelf(t, country).Misses != 2 {
			t.Errorf("then the shelf of plain is %+v, that of the country %+v", shelf, f.shelf(t, country))
		}
	})
}

// TestEndsOfAStandby: what becomes of a popped standby at the end of the job that took it.
func TestEndsOfAStandby(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		for i, tc := range []struct {
			end  nexus.State
			want []nexus.StandbyState
		}{
			{nexus.Succeeded, nil},
			{nexus.Failed, []nexus.StandbyState{nexus.StandbyReaping}},
			{nexus.Canceled, []nexus.StandbyState{nexus.StandbyReaping}},
			{nexus.RollbackFailed, []nexus.StandbyState{nexus.StandbyPopped}},
		} {
			id := f.made(t, erp, nexus.Succeeded, 1)
			lease, job, way := f.claim(t, nexus.SiteName(fmt.Sprintf("t%d.localhost", i)), erpKey)
			if way.Standby != id {
				t.Fatalf("took %+v", way)
			}
			f.end(t, lease, job, tc.end)
			if got := states(f.shelf(t, erpKey)); !slices.Equal(got, tc.want) {
				t.Errorf("%s: %v, want %v", tc.end, got, tc.want)
			}
			if tc.end == nexus.RollbackFailed { // it is the job's until that has ended
				wantCode(t, f.Reap(t.Context(), id), nexus.Conflict)
				if _, err := f.Resume(t.Context(), job.ID, "op"); err != nil {
					t.Fatal(err)
				}
				f.tick(t)
				lease, job = f.take(t, job.ID)
				f.end(t, lease, job, nexus.Failed)
			}
			for _, call := range []func() error{func() error { return f.Reap(t.Context(), id) }, func() error { return f.Reaped(t.Context(), id) }} {
				if err := call(); err != nil {
					t.Fatal(err)
				}
			}
			if left := f.shelf(t, erpKey).Standbys; len(left) > 0 {
				t.Errorf("%s: left %+v", tc.end, left)
			}
		}
	})
}

// TestEndsOfAMaker: what becomes of a standby at the end of the job that makes it. A parked
// one holds no place on the shelf, and counts as a failure once.
func TestEndsOfAMaker(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.made(t, erp, nexus.Failed, 1)
		f.made(t, erp, nexus.Canceled, 1)
		if _, err := f.Cancel(t.Context(), f.making(t, erp).ID, "op"); err != nil {
			t.Fatal(err)
		}
		if s := f.shelf(t, erpKey); len(s.Standbys) > 0 || s.Failures != 1 || !near(s.FailedAt, s.Now) {
			t.Errorf("%+v", s)
		}
		parked := f.made(t, erp, nexus.RollbackFailed, 1)
		if s := f.shelf(t, erpKey); len(s.Standbys) > 0 || s.Failures != 2 {
			t.Errorf("parked: %+v", s)
		}
		wantCode(t, f.Reap(t.Context(), parked), nexus.Conflict)
		if err := f.Reshelve(t.Context(), "main", nexus.Standby{Job: parked, Spec: nexus.TemplatePlain, Apps: erp}); err != nil || len(f.shelf(t, erpKey).Standbys) > 0 {
			t.Errorf("shelved while it is parked: %v", err)
		}
		if _, err := f.Resume(t.Context(), parked, "op"); err != nil {
			t.Fatal(err)
		}
		f.tick(t)
		lease, job := f.take(t, parked)
		f.end(t, lease, job, nexus.Failed)
		if s := f.shelf(t, erpKey); len(s.Standbys) > 0 || s.Failures != 2 {
			t.Errorf("resumed and ended: %+v", s)
		}
		f.made(t, erp, nexus.Succeeded, 1)
		if s := f.shelf(t, erpKey); s.Count(nexus.StandbyShelved) != 1 || s.Failures != 0 {
			t.Errorf("after one that went well: %+v", s)
		}
	})
}

// near tells whether two times are the same, but for the time that a busy machine takes.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < 15*time.Second }

// TestDemand: signups are counted in numbers that decay, once a worker keeps the shelf.
func TestDemand(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		signups := 0
		ask := func() nexus.Demand {
			t.Helper()
			lease, job, _ := f.claim(t, nexus.SiteName(fmt.Sprintf("t%d.localhost", signups)), erpKey, bareKey)
			f.end(t, lease, job, nexus.Failed)
			signups++
			return f.shelf(t, erpKey).Demand
		}
		is := func(when string, got nexus.Demand, hour, minutes float64) {
			t.Helper()
			if math.Abs(got.Hour-hour) > 0.02*hour+1e-4 || math.Abs(got.Minutes-minutes) > 0.15*minutes+1e-4 {
				t.Errorf("%s: %+v, want %v and %v", when, got, hour, minutes)
			}
		}
		ask()
		if all, err := f.Shelves(t.Context(), "main"); err != nil || len(all) > 0 {
			t.Fatalf("counted for a shelf that nobody keeps: %+v, %v", all, err)
		}
		if err := f.SetTarget(t.Context(), "main", erpKey, 2); err != nil {
			t.Fatal(err)
		}
		is("before any", f.shelf(t, erpKey).Demand, 0, 0)
		is("one", ask(), 1, 1)
		is("two", ask(), 2, 2)
		f.advance(5 * time.Minute)
		is("five minutes later", f.shelf(t, erpKey).Demand, 2*math.Exp(-5.0/60), 2*math.Exp(-1))
		is("three", ask(), 1+2*math.Exp(-5.0/60), 1+2*math.Exp(-1))
		f.made(t, erp, nexus.Succeeded, 1)
		ask()
		f.made(t, nil, nexus.Succeeded, 1)
		lease, job, way := f.claim(t, "z.localhost", erpKey, bareKey)
		if s := f.shelf(t, erpKey); way.Road != nexus.RoadStandby || s.Hits != 1 || s.Misses != 4 || s.Target != 2 {
			t.Errorf("counted %+v; the last one took %+v", s, way)
		}
		f.end(t, lease, job, nexus.Failed)
	})
}

// TestBuildTime: it follows the times of jobs that went well, without those that wait for a
// slot or between two attempts.
func TestBuildTime(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		for i, tc := range []struct {
			end    nexus.State
			starts int
			took   []time.Duration
			want   time.Duration
		}{
			{nexus.Succeeded, 2, []time.Duration{0, time.Hour, time.Second}, 0},
			{nexus.Succeeded, 1, []time.Duration{time.Hour, 1800 * time.Millisecond, 200 * time.Millisecond}, 2 * time.Second},
			{nexus.Succeeded, 1, []time.Duration{0, 2500 * time.Millisecond, 500 * time.Millisecond}, 2300 * time.Millisecond},
			{nexus.Succeeded, 3, []time.Duration{0, time.Hour, time.Second}, 2300 * time.Millisecond},
			{nexus.Failed, 1, []time.Duration{0, time.Hour, time.Second}, 2300 * time.Millisecond},
		} {
			f.made(t, erp, tc.end, tc.starts, tc.took...)
			if got := f.shelf(t, erpKey).Demand.Build; got != tc.want {
				t.Errorf("after %d: %s, want %s", i, got, tc.want)
			}
		}
		// The steps of a record that another version wrote do not keep a job from its end.
		lease, job := f.take(t, f.making(t, erp).ID)
		job.State, job.Steps = nexus.Succeeded, nil
		if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		if s := f.shelf(t, erpKey); s.Count(nexus.StandbyShelved) != 5 || s.Count(nexus.StandbyMaking) != 0 || s.Demand.Build != 2300*time.Millisecond {
			t.Errorf("%+v", s)
		}
	})
}

// TestEmptyAt: a shelf tells since when there is none on it.
func TestEmptyAt(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		since := func(when string, want time.Duration) {
			t.Helper()
			s := f.shelf(t, erpKey)
			if want < 0 && !s.EmptyAt.IsZero() || want >= 0 && !near(s.EmptyAt, s.Now.Add(-want)) {
				t.Errorf("%s: empty since %s, it is %s", when, s.EmptyAt, s.Now)
			}
		}
		f.making(t, erp)
		f.advance(time.Minute)
		f.making(t, erp)
		since("before the first", time.Minute)
		f.made(t, erp, nexus.Succeeded, 1)
		since("with one", -1)
		f.made(t, erp, nexus.Succeeded, 1)
		lease, job, _ := f.claim(t, "a.localhost", erpKey)
		since("with one of two", -1)
		f.claim(t, "b.localhost", erpKey)
		f.advance(time.Hour)
		since("popped", time.Hour)
		f.end(t, lease, job, nexus.Failed)
		since("after an end", time.Hour)
	})
}

// TestDetours: a standby that could not be used is counted once and dropped next; the job
// has another road and database, and its end says nothing of the standby.
func TestDetours(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.offer(t, "main", madeTemplate("erp", erp, 1, ""))
		id := f.made(t, erp, nexus.Succeeded, 1)
		lease, job, _ := f.claim(t, "a.localhost", erpKey)
		for range 2 { // the second time after a lost answer
			way, err := lease.Divert(t.Context(), "nx-own", erpKey)
			if want := (nexus.Way{Road: nexus.RoadClone, Template: "erp", DB: "nx-own"}); err != nil || way != want {
				t.Errorf("diverted to %+v, %v", way, err)
			}
		}
		if now, row := f.job(t, job.ID), f.tenant(t, "a.localhost"); now.Standby != "" || now.DB != "nx-own" || row.DB != "nx-own" || row.Road != nexus.RoadClone || row.Template != "erp" {
			t.Errorf("recorded %+v, and for the tenant %+v", now, row)
		}
		if s := f.shelf(t, erpKey); s.Detours != 1 || !slices.Equal(states(s), []nexus.StandbyState{nexus.StandbyReaping}) {
			t.Errorf("%+v", s)
		}
		if err := f.Reaped(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		f.end(t, lease, job, nexus.Succeeded)
		if err := f.ForgiveDetours(t.Context(), "main", erpKey); err != nil {
			t.Fatal(err)
		}
		if s := f.shelf(t, erpKey); s.Detours != 0 || len(s.Standbys) > 0 {
			t.Errorf("in the end: %+v", s)
		}
	})
}

// TestMachineRetention: the record of a machine job that went well is kept for a day, all
// others as long as the store says.
func TestMachineRetention(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		kept := func(id nexus.JobID) (out time.Duration) {
			t.Helper()
			record, events := f.rdb.PTTL(t.Context(), "{nexus}:job:"+string(id)).Val(), f.rdb.PTTL(t.Context(), "{nexus}:events:"+string(id)).Val()
			if (record - events).Abs() > time.Second {
				t.Errorf("the record is kept for %s, the events for %s", record, events)
			}
			return record
		}
		day, long := 24*time.Hour, 20*24*time.Hour
		lease, job, _ := f.claim(t, "a.localhost")
		f.end(t, lease, job, nexus.Succeeded)
		template := f.submit(t, build(erp))
		f.ended(t, template.ID, nexus.Succeeded)
		for _, tc := range []struct {
			name        string
			id          nexus.JobID
			least, most time.Duration
		}{
			{"a standby", f.made(t, erp, nexus.Succeeded, 1), day - time.Minute, day},
			{"a template", template.ID, day - time.Minute, day},
			{"a standby that failed", f.made(t, erp, nexus.Failed, 1), long, 10 * long},
			{"a signup", job.ID, long, 10 * long},
		} {
			if got := kept(tc.id); got < tc.least || got > tc.most {
				t.Errorf("%s is kept for %s", tc.name, got)
			}
		}
		short := &fixture{Store: store.New(f.rdb, store.Options{Slots: 2, Retention: time.Hour}), rdb: f.rdb}
		if got := kept(short.made(t, erp, nexus.Succeeded, 1)); got > time.Hour {
			t.Errorf("kept for %s although all others are kept for an hour", got)
		}
	})
}

// TestOrdersOfAnOperator: a drain and a fill replace each other; a fill forgives failures.
func TestOrdersOfAnOperator(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.made(t, erp, nexus.Failed, 1)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(f.DrainShelf(t.Context(), "main", erpKey))
		if s := f.shelf(t, erpKey); !s.Drained || s.AtLeast != 0 || !s.Until.IsZero() || s.Failures != 1 {
			t.Errorf("drained: %+v", s)
		}
		must(f.FillShelf(t.Context(), "main", erpKey, 7, time.Hour))
		if s := f.shelf(t, erpKey); s.Drained || s.AtLeast != 7 || !near(s.Until, s.Now.Add(time.Hour)) || s.Failures != 0 {
			t.Errorf("filled: %+v", s)
		}
		must(f.DrainShelf(t.Context(), "main", bareKey))
		must(f.FillShelf(t.Context(), "main", bareKey, 1, time.Hour))
		must(f.DrainShelf(t.Context(), "main", bareKey))
		if s := f.shelf(t, bareKey); !s.Drained || s.AtLeast != 0 || !s.Until.IsZero() {
			t.Errorf("drained again: %+v", s)
		}
	})
}

// TestLostRows: a standby whose row was lost comes back to the shelf if the bench has it. A
// job that had taken it before then decides nothing about it any more.
func TestLostRows(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		lose := func(id nexus.JobID) { f.rdb.Del(t.Context(), "{nexus}:standby:"+string(id)) }
		there := func(id nexus.JobID) nexus.Standby {
			return nexus.Standby{Job: id, DB: "nx-" + string(id), Template: "plain-1", Spec: nexus.TemplatePlain, Apps: erp}
		}
		reshelve := func(id nexus.JobID, want ...nexus.StandbyState) {
			t.Helper()
			if err := f.Reshelve(t.Context(), "main", there(id)); err != nil || !slices.Equal(states(f.shelf(t, erpKey)), want) {
				t.Errorf("put on the shelf: %v, %v, want %v", states(f.shelf(t, erpKey)), err, want)
			}
		}
		maker, job := f.take(t, f.making(t, erp).ID)
		lose(job.ID)
		wantCode(t, f.Reap(t.Context(), job.ID), nexus.Conflict)
		reshelve(job.ID) // its job makes it
		f.end(t, maker, job, nexus.Succeeded)
		if got := states(f.shelf(t, erpKey)); len(got) > 0 {
			t.Errorf("shelved without a row: %v", got)
		}
		reshelve(job.ID, nexus.StandbyShelved)
		reshelve(job.ID, nexus.StandbyShelved) // it is known

		one, first, _ := f.claim(t, "a.localhost", erpKey)
		reshelve(job.ID, nexus.StandbyPopped)
		lose(job.ID)
		reshelve(job.ID, nexus.StandbyShelved)
		_, second, way := f.claim(t, "b.localhost", erpKey)
		if way.Standby != job.ID || way.DB != "nx-"+string(job.ID) {
			t.Errorf("took %+v", way)
		}
		f.end(t, one, first, nexus.Failed)
		if s := f.shelf(t, erpKey); len(s.Standbys) != 1 || s.Standbys[0].State != nexus.StandbyPopped || s.Standbys[0].Taker != second.ID {
			t.Errorf("the first job gave away what the second has: %+v", s.Standbys)
		}

		stale := f.made(t, erp, nexus.Succeeded, 1)
		lose(stale)
		if _, _, way := f.claim(t, "c.localhost", erpKey); way.Road != nexus.RoadNewSite {
			t.Errorf("took %+v, which has no row", way)
		}
		if err := f.Reap(t.Context(), stale); err != nil { // the bench's is dropped all the same
			t.Error(err)
		}
	})
}

// TestMakerEndedByAFormerVersion: scripts of a former version end a standby's job without a
// word about the standby.
func TestMakerEndedByAFormerVersion(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		ids := []nexus.JobID{f.making(t, erp).ID, f.making(t, erp).ID}
		for _, id := range ids {
			if err := f.rdb.HSet(t.Context(), "{nexus}:job:"+string(id), "state", "canceled").Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Reshelve(t.Context(), "main", nexus.Standby{Job: ids[0], DB: ids[0].Database("9f3c"), Template: "plain-1", Spec: nexus.TemplatePlain, Apps: erp}); err != nil {
			t.Fatal(err)
		}
		if err := f.Reap(t.Context(), ids[1]); err != nil {
			t.Fatal(err)
		}
		s := f.shelf(t, erpKey)
		slices.SortFunc(s.Standbys, func(a, b nexus.ShelfStandby) int { return strings.Compare(string(b.State), string(a.State)) })
		if !slices.Equal(states(s), []nexus.StandbyState{nexus.StandbyShelved, nexus.StandbyReaping}) || s.Standbys[0].Job != ids[0] || len(s.Standbys) != 2 {
			t.Errorf("%+v", s.Standbys)
		}
	})
}
