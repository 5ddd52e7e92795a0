package store_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

func (f *fixture) bench(t testing.TB) nexus.BenchStatus {
	t.Helper()
	if err := f.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	all, err := f.Benches(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	return all[0]
}

// reserve submits a job, takes it, and asks for a slot.
func (f *fixture) reserve(t testing.TB, site nexus.SiteName) (*store.Lease, nexus.Job, error) {
	t.Helper()
	lease, job := f.take(t, f.submit(t, submission(site)).ID)
	return lease, job, lease.Slot(t.Context(), "main", "nx"+string(site[:1]))
}

func TestPausedBenchBeginsNothingNew(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.active(t, "old.localhost")
		f.bench(t)
		if err := f.SetBench(t.Context(), "none", nexus.BenchPaused, "op"); nexus.CodeOf(err) != nexus.NotFound {
			t.Fatalf("an unknown bench: %v", err)
		}
		for _, mode := range []nexus.BenchMode{nexus.BenchPaused, nexus.BenchDrained} {
			if err := f.SetBench(t.Context(), "main", mode, "op"); err != nil {
				t.Fatal(err)
			}
			if b := f.bench(t); b.Mode != mode || b.By != "op" {
				t.Fatalf("%+v", b)
			}
		}
		// Drained: not even a teardown starts.
		down := f.submit(t, on(nexus.KindTeardown, "old.localhost"))
		if _, _, taken, err := f.Take(t.Context(), down.ID, down.Dispatch, nil); err != nil || taken != store.TakeCapacity {
			t.Fatalf("a teardown on a drained bench: %s, %v", taken, err)
		}
		if job := f.job(t, down.ID); job.State != nexus.Waiting || job.WaitingFor != nexus.WaitBench || job.WaitNote == "" {
			t.Fatalf("it waits as %+v", job)
		}
		if err := f.SetBench(t.Context(), "main", nexus.BenchPaused, "op"); err != nil {
			t.Fatal(err)
		}
		// Paused: a provision waits for the bench, a clean-up continues.
		lease, job, err := f.reserve(t, "new.localhost")
		wantCode(t, err, nexus.Limit)
		job.State, job.WaitingFor = nexus.Waiting, nexus.WaitBench
		if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		f.advance(61 * time.Second)
		f.tick(t)
		f.ended(t, down.ID, nexus.Succeeded)
		if b := f.bench(t); b.Waiting != 1 {
			t.Fatalf("%+v", b)
		}
		before := f.job(t, job.ID).Dispatch
		if err := f.SetBench(t.Context(), "main", nexus.BenchOpen, "op"); err != nil {
			t.Fatal(err)
		}
		f.tick(t) // the waiting jobs are due at once
		if after := f.job(t, job.ID); after.Dispatch <= before && after.Taken == before {
			t.Fatalf("still waits: dispatch %d, taken %d", after.Dispatch, after.Taken)
		}
		if err := f.mustLease(t, job.ID).Slot(t.Context(), "main", "nxn"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) { // two slots
		f.bench(t)
		lease, job, err := f.reserve(t, "a.localhost")
		if err != nil {
			t.Fatal(err)
		}
		blame := func(by *store.Lease, step nexus.StepName, code nexus.Code) time.Time {
			t.Helper()
			until, err := by.BenchFailed(t.Context(), step, code)
			if err != nil {
				t.Fatal(err)
			}
			return until
		}
		// others lets n other jobs on the bench fail, once each.
		others := func(n int, step nexus.StepName, code nexus.Code) (last time.Time) {
			t.Helper()
			for range n {
				site := nexus.SiteName(nexus.NewJobID()[:8] + ".localhost")
				by, job, err := f.reserve(t, site)
				if err != nil {
					t.Fatal(err)
				}
				last = blame(by, step, code)
				job.State = nexus.RollbackFailed
				if err := by.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
					t.Fatal(err)
				}
			}
			return last
		}
		for range 10 { // a job that fails repeatedly counts once
			if until := blame(lease, "one", nexus.Timeout); !until.IsZero() {
				t.Fatal("tripped by one job")
			}
		}
		others(3, "one", nexus.Timeout)
		others(1, "one", nexus.Unavailable) // another code: the count starts again
		others(3, "one", nexus.Unavailable)
		job.State = nexus.Running
		if _, err := lease.Checkpoint(t.Context(), &job, "two", nexus.Event{}); err != nil { // the success of another step does not count
			t.Fatal(err)
		}
		if b := f.bench(t); b.Failures != 4 || b.Step != "one" || b.Code != nexus.Unavailable || b.Mode != nexus.BenchOpen {
			t.Fatalf("%+v", b)
		}
		if first := others(1, "one", nexus.Unavailable); first.IsZero() || f.bench(t).Mode != nexus.BenchTripped {
			t.Fatalf("the fifth in a row does not trip: %+v", f.bench(t))
		}
		if _, _, err := f.reserve(t, "b.localhost"); nexus.CodeOf(err) != nexus.Limit {
			t.Fatalf("a tripped bench admits: %v", err)
		}
		rest := func(d time.Duration) { // renews the lease meanwhile, so the job keeps its slot
			for ; d > 0; d -= 10 * time.Second {
				f.advance(10 * time.Second)
				if _, err := lease.Renew(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
		rest(40 * time.Second) // the pause is over: one job may try
		if second := blame(lease, "one", nexus.Internal); second.IsZero() {
			t.Fatal("a failure of the job that tries does not trip the breaker again")
		}
		rest(70 * time.Second)
		job.State = nexus.Running
		if _, err := lease.Checkpoint(t.Context(), &job, "one", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		if b := f.bench(t); b.Mode != nexus.BenchOpen || b.Failures != 0 {
			t.Fatalf("a success of the step that failed does not close it: %+v", b)
		}
	})
}

func TestReadyNamesAWrongClock(t *testing.T) {
	t.Parallel()
	f := newMini(t)
	for _, p := range []store.Presence{{Role: "worker", Name: "good", Keys: []string{"k1"}}, {Role: "worker", Name: "wrong", Keys: []string{"k1"}, Skew: time.Hour}} {
		if err := f.Announce(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	ready := f.Ready(t.Context())
	if len(ready.Problems) != 1 || !strings.Contains(ready.Problems[0], "worker/wrong is off by 1h") {
		t.Errorf("%v", ready.Problems)
	}
	workers, err := f.Workers(t.Context())
	if err != nil || workers != 1 || ready.Workers == nil || *ready.Workers != workers {
		t.Errorf("%d workers take jobs, by readiness %v, %v", workers, ready.Workers, err)
	}
	if stats, err := f.Stats(t.Context()); err != nil || stats.Workers != 2 {
		t.Errorf("%d workers announced themselves, %v", stats.Workers, err)
	}
}
