package store

import (
	"encoding/json"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// A live job has its journal in the field steps, as JSON of nexus.Step. A finished one,
// which is kept for a month, has it in the field journal: one array for each step, a
// third of the size. A version that does not know the field shows such a job without its
// steps.

// notEnded stands for the duration of a step that has not ended.
const notEnded = -1

// entry is one step of the field journal: name, state, attempts, starts, ms of the start
// (0: it never started) and duration in ms. What follows is usually zero, and is left out
// then: percent (of a done step it is always 100), internals, undos, note.
type entry struct{ nexus.Step }

// fields points at what an entry's array holds.
func (e *entry) fields(started, took *int64) []any {
	return []any{&e.Name, &e.State, &e.Attempts, &e.Starts, started, took, &e.Percent, &e.Internals, &e.Undos, &e.Note}
}

// MarshalJSON writes the array.
func (e entry) MarshalJSON() ([]byte, error) {
	started, took := int64(0), int64(notEnded)
	if e.StartedAt != nil {
		started = e.StartedAt.UnixMilli()
		if e.EndedAt != nil {
			took = max(e.EndedAt.UnixMilli()-started, 0)
		}
	}
	if e.State == nexus.StepDone {
		e.Percent = 0
	}
	all := e.fields(&started, &took)
	if e.Percent == 0 && e.Internals == 0 && e.Undos == 0 && e.Note == "" {
		all = all[:6]
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads what MarshalJSON wrote; times are whole milliseconds then.
func (e *entry) UnmarshalJSON(text []byte) error {
	started, took := int64(0), int64(notEnded)
	into := e.fields(&started, &took)
	if err := json.Unmarshal(text, &into); err != nil {
		return err
	}
	if started > 0 {
		e.StartedAt = new(time.UnixMilli(started).UTC())
	}
	if took != notEnded {
		e.EndedAt = new(time.UnixMilli(started + took).UTC())
	}
	if e.State == nexus.StepDone {
		e.Percent = 100
	}
	return nil
}

// journal is the field journal of a job's steps.
func journal(steps []nexus.Step) string {
	entries := make([]entry, len(steps))
	for i, step := range steps {
		entries[i].Step = step
	}
	return encode(entries)
}

// readJournal reads the field journal.
func readJournal(text string) ([]nexus.Step, error) {
	var entries []entry
	if err := json.Unmarshal([]byte(text), &entries); err != nil {
		return nil, err
	}
	steps := make([]nexus.Step, len(entries))
	for i := range entries {
		steps[i] = entries[i].Step
	}
	return steps, nil
}
