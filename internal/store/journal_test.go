package store_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// TestJournalKeepsTheSteps: the journal of a finished job is read as it was written, with
// times in milliseconds.
func TestJournalKeepsTheSteps(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 29, 6, 54, 59, 680_000_000, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) nexus.Step {
			few := rapid.IntRange(0, 3)
			step := nexus.Step{
				Name:     rapid.SampledFrom([]nexus.StepName{"reserve", "site", "api_key"}).Draw(t, "name"),
				State:    rapid.SampledFrom([]nexus.StepState{nexus.StepPending, nexus.StepStarted, nexus.StepDone, nexus.StepFailed, nexus.StepUndone}).Draw(t, "state"),
				Attempts: few.Draw(t, "attempts"), Internals: few.Draw(t, "internals"), Starts: few.Draw(t, "starts"), Undos: few.Draw(t, "undos"),
				Note: rapid.String().Draw(t, "note"), Percent: rapid.IntRange(0, 100).Draw(t, "percent"),
			}
			step.Note = strings.ToValidUTF8(step.Note, "")
			if step.State == nexus.StepDone {
				step.Percent = 100
			}
			if rapid.Bool().Draw(t, "started") {
				step.StartedAt = new(start.Add(time.Duration(few.Draw(t, "s")) * time.Second))
				if rapid.Bool().Draw(t, "ended") {
					step.EndedAt = new(step.StartedAt.Add(time.Duration(few.Draw(t, "ms")) * time.Millisecond))
				}
			}
			return step
		}), 0, 8).Draw(t, "steps")
		got, err := store.ReadJournal(store.Journal(steps))
		if err != nil || len(got) != len(steps) || len(steps) > 0 && !reflect.DeepEqual(got, steps) {
			t.Errorf("%+v\nbecame %+v, %v", steps, got, err)
		}
	})
}

// TestJournalForm pins the stored form, which later versions must be able to read.
func TestJournalForm(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 6, 54, 59, 680_000_000, time.UTC)
	want := `[["site","done",1,2,1795935299680,4000],["apps","pending",0,0,0,-1],["user","failed",3,3,1795935299680,0,0,1,2,"why"]]`
	got := store.Journal([]nexus.Step{
		{Name: "site", State: nexus.StepDone, Attempts: 1, Starts: 2, StartedAt: &now, EndedAt: new(now.Add(4 * time.Second)), Percent: 100},
		{Name: "apps", State: nexus.StepPending},
		{Name: "user", State: nexus.StepFailed, Attempts: 3, Starts: 3, StartedAt: &now, EndedAt: &now, Internals: 1, Undos: 2, Note: "why"},
	})
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

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
