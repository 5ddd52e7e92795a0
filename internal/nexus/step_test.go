package nexus_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// TestStepsAreReadAsWritten: steps are read from the store as they were written, with times
// in milliseconds.
func TestStepsAreReadAsWritten(t *testing.T) {
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
		text := nexus.StepsText(steps)
		if marshaled, err := json.Marshal(steps); err != nil || string(marshaled) != text {
			t.Fatalf("%s by json.Marshal, %v; %s", marshaled, err, text)
		}
		var got []nexus.Step
		if err := json.Unmarshal([]byte(text), &got); err != nil || len(got) != len(steps) || len(steps) > 0 && !reflect.DeepEqual(got, steps) {
			t.Errorf("%+v\nbecame %+v by %s, %v", steps, got, text, err)
		}
	})
}

// TestStepForm pins the stored form, which later versions must be able to read.
func TestStepForm(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 29, 6, 54, 59, 680_000_000, time.UTC)
	want := `[["site","done",1,2,1795935299680,4000],["apps","pending",0,0,0,-1],["user","failed",3,3,1795935299680,0,0,1,2,"why"]]`
	steps := []nexus.Step{
		{Name: "site", State: nexus.StepDone, Attempts: 1, Starts: 2, StartedAt: &now, EndedAt: new(now.Add(4 * time.Second)), Percent: 100},
		{Name: "apps", State: nexus.StepPending},
		{Name: "user", State: nexus.StepFailed, Attempts: 3, Starts: 3, StartedAt: &now, EndedAt: &now, Internals: 1, Undos: 2, Note: "why"},
	}
	if got, err := json.Marshal(steps); err != nil || string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
	former := `[{"name":"site","state":"done","attempts":1,"starts":2,"startedAt":"2026-11-29T06:54:59.68Z","endedAt":"2026-11-29T06:55:03.68Z","percent":100},
		{"name":"apps","state":"pending","attempts":0},
		{"name":"user","state":"failed","attempts":3,"internals":1,"starts":3,"startedAt":"2026-11-29T06:54:59.68Z","endedAt":"2026-11-29T06:54:59.68Z","undos":2,"note":"why"}]`
	var got []nexus.Step
	if err := json.Unmarshal([]byte(former), &got); err != nil || !reflect.DeepEqual(got, steps) {
		t.Errorf("the form of a former version is read as %+v, %v", got, err)
	}
}
