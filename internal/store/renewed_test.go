package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestRepeatedWaitIsOneEvent: a job that waits for the same reason repeatedly keeps one event
// of the wait. Each wait replaces it by an event with a higher rev, which watchers get. The
// events of steps done in between, and of operators, are kept.
func TestRepeatedWaitIsOneEvent(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		id := f.submit(t, submission("a.localhost")).ID
		wait := func(step nexus.StepName, note string) (rev int64) {
			t.Helper()
			f.tick(t)
			lease, job := f.take(t, id)
			if _, err := lease.Checkpoint(t.Context(), &job, "", nexus.Event{Step: step, StepState: nexus.StepStarted}); err != nil {
				t.Fatal(err)
			}
			job.State, job.WaitingFor, job.WaitNote = nexus.Waiting, nexus.WaitRetry, note
			if err := lease.Wait(t.Context(), &job, time.Second, nexus.Event{Step: step, StepState: nexus.StepFailed, Note: note}); err != nil {
				t.Fatal(err)
			}
			f.advance(2 * time.Second)
			return f.job(t, id).Rev
		}
		told := func(after int64) (notes []string) {
			t.Helper()
			events, err := f.Events(t.Context(), id, after)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.Note != "" {
					notes = append(notes, e.Note)
				}
			}
			return notes
		}
		rev := wait("one", "The bench is away.")
		first := len(f.rdb.XRange(t.Context(), "{nexus}:events:"+string(id), "-", "+").Val())
		for range 20 {
			next := wait("one", "The bench is away.")
			if next <= rev || !slices.Equal(told(rev), []string{"The bench is away."}) {
				t.Fatalf("after rev %d comes %d, telling %q", rev, next, told(rev))
			}
			rev = next
		}
		n := f.rdb.XLen(t.Context(), "{nexus}:events:"+string(id)).Val()
		if n > int64(first)+1 || !slices.Equal(told(0), []string{"The bench is away."}) {
			t.Errorf("after 20 more of the same there are %d events, first %d: %q", n, first, told(0))
		}
		wait("one", "The disk is full.")
		wait("two", "The disk is full.")
		if want := []string{"The bench is away.", "The disk is full.", "The disk is full."}; !slices.Equal(told(0), want) {
			t.Errorf("told %q, want %q", told(0), want)
		}
	})
}
