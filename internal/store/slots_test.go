package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// waiters submits provisions that wait for the bench, in this order.
func (f *fixture) waiters(t testing.TB, n int) (out []nexus.Job) {
	t.Helper()
	for i := range n {
		lease, job, err := f.reserve(t, nexus.SiteName(fmt.Sprintf("w%d.localhost", i)))
		wantCode(t, err, nexus.Limit)
		job.State, job.WaitingFor = nexus.Waiting, nexus.WaitCapacity
		if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		out = append(out, job)
		f.advance(2 * time.Millisecond)
	}
	return out
}

// undoing returns a provision that rolls back and waits between two attempts of an undo, so
// it has no slot.
func (f *fixture) undoing(t testing.TB, site nexus.SiteName) nexus.JobID {
	t.Helper()
	lease, job, err := f.reserve(t, site)
	if err != nil {
		t.Fatal(err)
	}
	job.State, job.WaitingFor = nexus.RollingBack, nexus.WaitRetry
	if err := lease.Wait(t.Context(), &job, time.Second, nexus.Event{}); err != nil {
		t.Fatal(err)
	}
	return job.ID
}

// TestMachineJobsLetOthersGoFirst: while other jobs wait for the bench, no machine job begins,
// and none is scheduled at each tick. One begins when they wait no more, or after 15 s.
func TestMachineJobsLetOthersGoFirst(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		then func(t *testing.T, f *fixture, has *store.Lease, job, waits nexus.Job)
	}{
		{"no other job waits", func(t *testing.T, f *fixture, has *store.Lease, job, waits nexus.Job) {
			f.end(t, has, job, nexus.Succeeded)
			f.tick(t)
			if lease, _ := f.take(t, waits.ID); lease.Slot(t.Context(), "main", "nxw") != nil {
				t.Fatal("the signup that waited has no slot")
			}
		}},
		{"it has waited for long", func(_ *testing.T, f *fixture, _ *store.Lease, _, _ nexus.Job) { f.advance(15 * time.Second) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) { // two slots
				f.bench(t)
				has, signup, err := f.reserve(t, "a.localhost")
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := f.reserve(t, "b.localhost"); err != nil {
					t.Fatal(err)
				}
				waits := f.waiters(t, 1)[0]
				lease, job := f.take(t, f.submit(t, build(nil)).ID)
				wantCode(t, lease.Slot(t.Context(), "main", "nxt"), nexus.Limit)
				job.State, job.WaitingFor = nexus.Waiting, nexus.WaitCapacity
				if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
					t.Fatal(err)
				}
				f.tick(t)
				if after := f.job(t, job.ID); after.Dispatch != 1 {
					t.Errorf("scheduled while a signup waits: dispatch %d", after.Dispatch)
				}
				tc.then(t, f, has, signup, waits)
				f.tick(t)
				if _, _, taken, err := f.Take(t.Context(), job.ID, f.job(t, job.ID).Dispatch, nil); err != nil || taken != store.TakeOK || f.job(t, job.ID).Dispatch != 2 {
					t.Errorf("the template job: %s, %v, dispatch %d", taken, err, f.job(t, job.ID).Dispatch)
				}
			})
		})
	}
}

// TestCleaningUpNeedsNoTurn: a clean-up, or an operator's job on a tenant, gets a slot before
// all new provisions, on a full bench and on a paused one.
func TestCleaningUpNeedsNoTurn(t *testing.T) {
	t.Parallel()
	begin := func(kind nexus.Kind) func(testing.TB, *fixture) nexus.JobID {
		return func(t testing.TB, f *fixture) nexus.JobID { return f.submit(t, on(kind, "old.localhost")).ID }
	}
	for _, tc := range []struct {
		name  string
		ready func(testing.TB, *fixture) nexus.JobID // called before the bench is full; nil: not called
		begin func(testing.TB, *fixture) nexus.JobID
	}{
		{name: "undo", ready: func(t testing.TB, f *fixture) nexus.JobID { return f.undoing(t, "back.localhost") }},
		{name: "teardown", begin: begin(nexus.KindTeardown)},
		{name: "suspend", begin: begin(nexus.KindSuspend)},
		{name: "rotate_key", begin: begin(nexus.KindRotateKey)},
	} {
		for _, mode := range []nexus.BenchMode{nexus.BenchOpen, nexus.BenchPaused} {
			t.Run(fmt.Sprintf("%s on a full bench that is %s", tc.name, mode), func(t *testing.T) {
				t.Parallel()
				onBoth(t, func(t *testing.T, f *fixture) { // two slots
					f.active(t, "old.localhost")
					f.bench(t)
					var id nexus.JobID
					if tc.ready != nil {
						id = tc.ready(t, f)
					}
					for _, site := range []nexus.SiteName{"a.localhost", "b.localhost"} {
						if _, _, err := f.reserve(t, site); err != nil {
							t.Fatal(err)
						}
					}
					waiting := f.waiters(t, 20)
					if err := f.SetBench(t.Context(), "main", mode, "op"); err != nil {
						t.Fatal(err)
					}
					if tc.begin != nil {
						id = tc.begin(t, f)
					} else {
						f.advance(2 * time.Second) // its wait is over
						f.tick(t)
					}
					job := f.job(t, id)
					if _, _, taken, err := f.Take(t.Context(), id, job.Dispatch, nil); err != nil || taken != store.TakeOK {
						t.Fatalf("behind %d waiters: %s, %v; the bench: %+v", len(waiting), taken, err, f.bench(t))
					}
					if _, _, err := f.reserve(t, "new.localhost"); nexus.CodeOf(err) != nexus.Limit {
						t.Errorf("the slot for cleaning up goes to what is new: %v", err)
					}
				})
			})
		}
	}
}

// TestDrainedBenchBeginsNoCleaning: on a drained bench an undo does not start either.
func TestDrainedBenchBeginsNoCleaning(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.bench(t)
		id := f.undoing(t, "back.localhost")
		if err := f.SetBench(t.Context(), "main", nexus.BenchDrained, "op"); err != nil {
			t.Fatal(err)
		}
		f.advance(2 * time.Second)
		f.tick(t)
		if _, _, taken, err := f.Take(t.Context(), id, f.job(t, id).Dispatch, nil); err != nil || taken != store.TakeCapacity {
			t.Fatalf("%s, %v", taken, err)
		}
		if job := f.job(t, id); job.State != nexus.RollingBack || job.WaitingFor != nexus.WaitBench {
			t.Errorf("it waits as %+v", job)
		}
	})
}

// TestEverySlotThatIsFreedWakesOne: after two slots were freed, the first two waiters are
// due at once, and the third is not.
func TestEverySlotThatIsFreedWakesOne(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) { // two slots
		f.bench(t)
		held := make([]*store.Lease, 2)
		jobs := make([]nexus.Job, 2)
		for i, site := range []nexus.SiteName{"a.localhost", "b.localhost"} {
			var err error
			if held[i], jobs[i], err = f.reserve(t, site); err != nil {
				t.Fatal(err)
			}
		}
		waiting := f.waiters(t, 3)
		for i, lease := range held {
			jobs[i].State = nexus.Succeeded
			if err := lease.Finish(t.Context(), &jobs[i], "", nexus.Event{}); err != nil {
				t.Fatal(err)
			}
		}
		f.tick(t)
		for i, w := range waiting {
			job := f.job(t, w.ID)
			if woken := job.Dispatch > job.Taken; woken != (i < 2) {
				t.Errorf("number %d in line, woken: %t", i+1, woken)
			}
		}
		for i, w := range waiting[:2] {
			if err := f.mustLease(t, w.ID).Slot(t.Context(), "main", "nxw"); err != nil {
				t.Errorf("number %d in line has no slot: %v", i+1, err)
			}
		}
		if b := f.bench(t); b.Waiting != 1 {
			t.Errorf("%d wait still, want 1", b.Waiting)
		}
	})
}
