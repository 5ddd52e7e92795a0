package store

import (
	"encoding/json"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// The record of a live job has its journal in the field steps, as JSON of nexus.Step. The
// record of a finished job, which is kept for a month, has it in the field journal: one
// array for each step, a third of the size. A former version, which does not know that
// field, shows such a job without steps.

// notEnded is stored as the duration of a step that has not ended.
const notEnded = -1

// entry is one step of the field journal, an array of: name, state, attempts, starts, time
// of the start in ms (0: it never started), duration in ms, percent, internals, undos, note.
// Zero values at the end of the array are left out. The percent of a done step is stored as
// 0 and read as 100.
type entry struct{ nexus.Step }

// fields returns pointers to the values of the array, in its order.
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

// journal encodes steps for the field journal.
func journal(steps []nexus.Step) string {
	entries := make([]entry, len(steps))
	for i, step := range steps {
		entries[i].Step = step
	}
	return encode(entries)
}

// readJournal decodes the field journal.
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
