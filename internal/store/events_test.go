package store_test

import (
	"testing"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestEventsKeepTheirAttempts: the number of an attempt is read as it was written, and an
// event of a wait has none.
func TestEventsKeepTheirAttempts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) {
		lease, job := f.take(t, f.submit(t, submission("a.localhost")).ID)
		job.State = nexus.Running
		told := []nexus.Event{
			{Step: "one", StepState: nexus.StepStarted, Attempt: 1}, {Step: "one", StepState: nexus.StepStarted, Note: "it waits"},
			{Step: "one", StepState: nexus.StepStarted, Attempt: 2}, {Step: "one", StepState: nexus.StepDone, Attempt: 2},
			{Step: "two", StepState: nexus.StepDone, Attempt: 1, Note: "a note"}, {Step: "two", Percent: 5},
		}
		before := job.Rev
		if _, err := lease.Checkpoint(t.Context(), &job, "", told...); err != nil {
			t.Fatal(err)
		}
		got, err := f.Events(t.Context(), job.ID, before)
		if err != nil || len(got) != len(told) {
			t.Fatalf("%+v, %v", got, err)
		}
		for i, e := range got {
			if e.Attempt != told[i].Attempt {
				t.Errorf("%+v: attempt %d", told[i], e.Attempt)
			}
		}
	})
}
