package store_test

import (
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestLateCheckpoint: a write of the journal that was long on its way, and comes after a
// later one of the same run, changes nothing.
func TestLateCheckpoint(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("a.localhost")).ID
		lease, job := f.take(t, id)
		early := store.LeaseAt(f.Store, id, lease.Gen()) // its first write is long on its way
		late := job
		late.Steps = []nexus.Step{{Name: "one", State: nexus.StepStarted, Percent: 50}, {Name: "two", State: nexus.StepPending}}
		job.State = nexus.Running
		for range 2 {
			if _, err := lease.Checkpoint(t.Context(), &job, "", nexus.Event{Step: "one", StepState: nexus.StepStarted}); err != nil {
				t.Fatal(err)
			}
			job.Steps[0].State = nexus.StepDone
		}
		before := f.dump(t)
		if _, err := early.Checkpoint(t.Context(), &late, "", nexus.Event{Step: "one", Percent: 50}); nexus.CodeOf(err) != nexus.Conflict {
			t.Errorf("written late: %v", err)
		}
		if after := f.dump(t); after["{nexus}:job:"+string(id)] != before["{nexus}:job:"+string(id)] || after["{nexus}:events:"+string(id)] != before["{nexus}:events:"+string(id)] {
			t.Errorf("the journal was put back:\n%s\n%s", before, after)
		}
		// The next owner's writes are numbered anew.
		if err := lease.GiveUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.tick(t)
		next, job := f.take(t, id)
		if _, err := next.Checkpoint(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Errorf("the next owner's first: %v", err)
		}
	})
}

// TestRunsKeepTheirSlots: runs that could not renew for longer than a slot lives are at
// work all the same, and nobody new is admitted beside them.
func TestRunsKeepTheirSlots(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) { // two slots
		f.bench(t)
		var held []*store.Lease
		for _, site := range []nexus.SiteName{"a.localhost", "b.localhost"} {
			lease, _, err := f.reserve(t, site)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, lease)
		}
		f.advance(25 * time.Second) // Redis was away
		_, _, err := f.reserve(t, "early.localhost")
		if err != nil {
			t.Fatal(err) // it comes before the others have renewed
		}
		for _, lease := range held {
			if _, err := lease.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if used := f.rdb.ZCard(t.Context(), "{nexus}:slots:main").Val(); used != 3 {
			t.Errorf("%d slots are used, by three runs", used)
		}
		if _, _, err = f.reserve(t, "late.localhost"); nexus.CodeOf(err) != nexus.Limit {
			t.Errorf("a fourth run on two slots: %v", err)
		}
	})
}

// TestRetryKeepsItsPlace: a half-made site that rests before a retry, and meets a full
// bench then, goes before all that asked later and have not begun.
func TestRetryKeepsItsPlace(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) { // two slots
		f.bench(t)
		half, job, err := f.reserve(t, "half.localhost")
		if err != nil {
			t.Fatal(err)
		}
		f.advance(time.Second)
		other, otherJob, err := f.reserve(t, "other.localhost")
		if err != nil {
			t.Fatal(err)
		}
		waiting := f.waiters(t, 3)
		job.State, job.WaitingFor = nexus.Waiting, nexus.WaitRetry
		if err := half.Wait(t.Context(), &job, time.Second, nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		f.tick(t) // the first in line has its slot now
		if err := f.mustLease(t, waiting[0].ID).Reserve(t.Context(), "main", "nxw"); err != nil {
			t.Fatal(err)
		}
		f.advance(2 * time.Second)
		f.tick(t)
		if _, _, taken, err := f.Take(t.Context(), job.ID, f.job(t, job.ID).Dispatch); err != nil || taken != store.TakeCapacity {
			t.Fatalf("on a full bench: %s, %v", taken, err)
		}
		otherJob.State = nexus.Succeeded
		if err := other.Finish(t.Context(), &otherJob, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		f.tick(t)
		if _, _, taken, err := f.Take(t.Context(), job.ID, f.job(t, job.ID).Dispatch); err != nil || taken != store.TakeOK {
			t.Errorf("the half-made site stands behind what has not begun: %s, %v", taken, err)
		}
	})
}
