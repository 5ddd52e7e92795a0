package store_test

import (
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestLateCheckpoint: a checkpoint that arrives after a later one of the same run changes
// nothing.
func TestLateCheckpoint(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("a.localhost")).ID
		lease, job := f.take(t, id)
		early := store.LeaseAt(f.Store, id, lease.Gen()) // its first write is delayed
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
		// The writes of the next owner are numbered from one.
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

// TestRunsKeepTheirSlots: runs that could not renew for longer than a slot lasts get their
// slots again, and no new job is admitted beside them.
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
		f.advance(25 * time.Second) // Redis could not be reached
		_, _, err := f.reserve(t, "early.localhost")
		if err != nil {
			t.Fatal(err) // this renewal is before the others
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

// TestRetryKeepsItsPlace: a job that waits for a retry, and then finds the bench full, gets
// the next slot before jobs that asked later.
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
		f.tick(t) // the first waiter has its slot now
		if err := f.mustLease(t, waiting[0].ID).Slot(t.Context(), "main", "nxw"); err != nil {
			t.Fatal(err)
		}
		f.advance(2 * time.Second)
		f.tick(t)
		if _, _, taken, err := f.Take(t.Context(), job.ID, f.job(t, job.ID).Dispatch, nil); err != nil || taken != store.TakeCapacity {
			t.Fatalf("on a full bench: %s, %v", taken, err)
		}
		otherJob.State = nexus.Succeeded
		if err := other.Finish(t.Context(), &otherJob, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		f.tick(t)
		if _, _, taken, err := f.Take(t.Context(), job.ID, f.job(t, job.ID).Dispatch, nil); err != nil || taken != store.TakeOK {
			t.Errorf("the half-made site stands behind what has not begun: %s, %v", taken, err)
		}
	})
}
