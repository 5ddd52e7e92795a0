package store_test

import (
	"maps"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestOutOfTimeNeedsNoTurn: a job that is past its give-up time gets the extra slot of
// clean-ups, even on a full or paused bench. Otherwise it would wait, and block its name,
// forever.
func TestOutOfTimeNeedsNoTurn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.bench(t)
		lease, job, err := f.reserve(t, "late.localhost")
		if err != nil {
			t.Fatal(err)
		}
		job.State = nexus.Waiting
		if err := lease.Wait(t.Context(), &job, time.Second, nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		if err := f.SetBench(t.Context(), "main", nexus.BenchPaused, "op"); err != nil {
			t.Fatal(err)
		}
		f.advance(2 * time.Second)
		f.tick(t)
		if _, _, taken, err := f.Take(t.Context(), job.ID, f.job(t, job.ID).Dispatch, nil); err != nil || taken != store.TakeCapacity {
			t.Fatalf("in time, on a paused bench: %s, %v", taken, err)
		}
		f.advance(24*time.Hour + time.Minute)
		f.tick(t)
		if _, _, taken, err := f.Take(t.Context(), job.ID, f.job(t, job.ID).Dispatch, nil); err != nil || taken != store.TakeOK {
			t.Fatalf("out of time: %s, %v", taken, err)
		}
	})
}

// TestSealedPairOutlivesParking: the credentials of a parked job are kept, since an operator
// may resume it days later and the site has this pair.
func TestSealedPairOutlivesParking(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		f.active(t, "acme.localhost")
		lease, job := f.take(t, f.submit(t, on(nexus.KindRotateKey, "acme.localhost")).ID)
		if _, _, err := lease.Seal(t.Context(), &job, "", "pair"); err != nil {
			t.Fatal(err)
		}
		job.State = nexus.RollbackFailed
		if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		f.advance(30 * 24 * time.Hour)
		if _, err := f.Resume(t.Context(), job.ID, "op"); err != nil {
			t.Fatal(err)
		}
		f.tick(t)
		lease, job = f.take(t, job.ID)
		if _, kept, err := lease.Seal(t.Context(), &job, "", "another"); err != nil || kept != "pair" {
			t.Fatalf("the pair is %q, %v", kept, err)
		}
	})
}

// TestCheckpointWhoseAnswerIsLost: a repeated checkpoint gets the same answer and is written
// once.
func TestCheckpointWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		lease, job := f.take(t, f.submit(t, submission("acme.localhost")).ID)
		again := job
		write := func(job *nexus.Job, percent int) {
			t.Helper()
			_, stored, err := lease.Seal(t.Context(), job, "one", "pair", nexus.Event{Step: "one", StepState: nexus.StepDone, Percent: percent})
			if err != nil || stored != "pair" {
				t.Fatalf("the pair is %q, %v", stored, err)
			}
		}
		write(&job, 100)
		before := f.dump(t)
		write(&again, 100)
		if after := f.dump(t); !maps.Equal(before, after) || again.Rev != job.Rev {
			t.Fatalf("rev %d, then %d\n%v\n%v", job.Rev, again.Rev, before, after)
		}
		if write(&again, 50); again.Rev != job.Rev+1 {
			t.Fatalf("another write is not journalled: rev %d", again.Rev)
		}
	})
}
