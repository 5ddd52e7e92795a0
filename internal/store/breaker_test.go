package store_test

import (
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// fails lets a new job fail in a step and parks it. Tripped is the time at which the bench
// is tried again; zero if the breaker did not trip.
func (f *fixture) fails(t testing.TB, step nexus.StepName) (tripped time.Time) {
	t.Helper()
	lease, job, err := f.reserve(t, nexus.SiteName(nexus.NewJobID()[:8]+".localhost"))
	if err == nil {
		tripped, err = lease.BenchFailed(t.Context(), step, nexus.Unavailable)
	}
	if job.State = nexus.RollbackFailed; err == nil {
		err = lease.Finish(t.Context(), &job, "", nexus.Event{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return tripped
}

// trip lets jobs fail in a step until the breaker pauses the bench.
func (f *fixture) trip(t testing.TB, step nexus.StepName) {
	t.Helper()
	for range 4 {
		f.fails(t, step)
	}
	if f.fails(t, step).IsZero() {
		t.Fatalf("five failures of %s do not trip: %+v", step, f.bench(t))
	}
}

// works lets a new job succeed in one step.
func (f *fixture) works(t testing.TB, step nexus.StepName) {
	t.Helper()
	lease, job, err := f.reserve(t, nexus.SiteName(nexus.NewJobID()[:8]+".localhost"))
	if job.State = nexus.Succeeded; err == nil {
		err = lease.Finish(t.Context(), &job, step, nexus.Event{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// wantOpen checks that the bench is open and both of its slots can be taken.
func (f *fixture) wantOpen(t testing.TB) {
	t.Helper()
	if b := f.bench(t); b.Mode != nexus.BenchOpen || b.Failures != 0 || b.Step != "" || !b.Until.IsZero() {
		t.Errorf("not open: %+v", b)
	}
	for _, site := range []nexus.SiteName{"x.localhost", "y.localhost"} {
		if _, _, err := f.reserve(t, site); err != nil {
			t.Errorf("no slot for %s: %v", site, err)
		}
	}
}

// TestBreakerHearsNothingWhilePaused: a step that started before the pause and succeeds
// during it neither opens the bench nor resets the breaker. The success of the job that
// tries the bench afterwards does both.
func TestBreakerHearsNothingWhilePaused(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		tell func(testing.TB, *store.Lease, *nexus.Job) error
	}{
		{"a step", func(t testing.TB, l *store.Lease, job *nexus.Job) error {
			_, err := l.Checkpoint(t.Context(), job, "one", nexus.Event{})
			return err
		}},
		{"the last step", func(t testing.TB, l *store.Lease, job *nexus.Job) error {
			job.State = nexus.Succeeded
			return l.Finish(t.Context(), job, "one", nexus.Event{})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, f *fixture) { // two slots
				f.bench(t)
				before, job, err := f.reserve(t, "before.localhost")
				if err != nil {
					t.Fatal(err)
				}
				f.trip(t, "one")
				want := f.bench(t)
				if err := tc.tell(t, before, &job); err != nil {
					t.Fatal(err)
				}
				if got := f.bench(t); got.Mode != nexus.BenchTripped || got.Step != want.Step || got.Code != want.Code || got.Failures != want.Failures {
					t.Fatalf("paused as %+v, after a success in the pause %+v", want, got)
				}
				job.State = nexus.Succeeded // gives the slot back; refused if the job is over already
				_ = before.Finish(t.Context(), &job, "", nexus.Event{})
				f.advance(31 * time.Second)
				f.works(t, "one")
				f.wantOpen(t)
			})
		})
	}
}

// TestBreakerIsOfNewSites: failures of jobs on existing tenants never trip the breaker, not
// in a row and not while the bench is tried.
func TestBreakerIsOfNewSites(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		sites := []nexus.SiteName{"a.localhost", "b.localhost", "c.localhost", "d.localhost", "e.localhost", "f.localhost"}
		for _, site := range sites {
			f.active(t, site)
		}
		f.bench(t)
		blame := func(site nexus.SiteName) time.Time {
			t.Helper()
			lease, job := f.take(t, f.submit(t, on(nexus.KindTeardown, site)).ID)
			until, err := lease.BenchFailed(t.Context(), "drop", nexus.Unavailable)
			if job.State = nexus.RollbackFailed; err == nil {
				err = lease.Finish(t.Context(), &job, "", nexus.Event{})
			}
			if err != nil {
				t.Fatal(err)
			}
			return until
		}
		for _, site := range sites[:5] {
			if until := blame(site); !until.IsZero() {
				t.Fatalf("the teardown of %s trips", site)
			}
		}
		if b := f.bench(t); b.Mode != nexus.BenchOpen || b.Failures != 0 {
			t.Errorf("after teardowns that failed: %+v", b)
		}
		f.trip(t, "one")
		f.advance(31 * time.Second) // the bench is tried from now on
		if until := blame(sites[5]); !until.IsZero() {
			t.Errorf("a teardown that fails while the bench is tried trips it until %s", until)
		}
		f.works(t, "one")
		f.wantOpen(t)
	})
}

// TestBreakerHearsOfTheLastStep: the success of a job's last step, which is written with the
// end of the job, counts too.
func TestBreakerHearsOfTheLastStep(t *testing.T) {
	t.Parallel()
	t.Run("it closes a bench that is tried", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, f *fixture) {
			f.bench(t)
			f.trip(t, "two")
			f.advance(31 * time.Second)
			f.works(t, "one") // the success of another step does not count
			if b := f.bench(t); b.Mode == nexus.BenchOpen {
				t.Fatalf("opened by another step: %+v", b)
			}
			f.works(t, "two")
			f.wantOpen(t)
		})
	})
	t.Run("it breaks a row of failures", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, f *fixture) {
			f.bench(t)
			for range 6 {
				if until := f.fails(t, "two"); !until.IsZero() {
					t.Fatal("tripped by failures with successes between them")
				}
				f.works(t, "two")
			}
			for range 4 {
				f.fails(t, "two")
			}
			if b := f.bench(t); b.Failures != 4 || b.Mode != nexus.BenchOpen {
				t.Errorf("four in a row: %+v", b)
			}
			f.works(t, "two")
			f.wantOpen(t)
		})
	})
}
