package nexus

import (
	"bytes"
	"encoding/json"
	"time"
)

// A step is stored as an array of: name, state, attempts, starts, time of the start in ms
// (0: it never started), duration in ms (-1: it has not ended), percent, internals, undos,
// note. Zero values at the end of the array are left out. The percent of a done step is
// stored as 0 and read as 100. A journal is written with each step of a job and kept for a
// month; as an object with a name for each value it would be three times as long.

// notEnded is stored as the duration of a step that has not ended.
const notEnded = -1

// fields returns pointers to the values of the array, in its order.
func (s *Step) fields(started, took *int64) []any {
	return []any{&s.Name, &s.State, &s.Attempts, &s.Starts, started, took, &s.Percent, &s.Internals, &s.Undos, &s.Note}
}

// MarshalJSON writes the stored form. Times are cut to milliseconds.
func (s Step) MarshalJSON() ([]byte, error) {
	started, took := int64(0), int64(notEnded)
	if s.StartedAt != nil {
		started = s.StartedAt.UnixMilli()
		if s.EndedAt != nil {
			took = max(s.EndedAt.UnixMilli()-started, 0)
		}
	}
	if s.State == StepDone {
		s.Percent = 0
	}
	all := s.fields(&started, &took)
	if s.Percent == 0 && s.Internals == 0 && s.Undos == 0 && s.Note == "" {
		all = all[:6]
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads the stored form, and the object of a former version.
func (s *Step) UnmarshalJSON(text []byte) error {
	if bytes.HasPrefix(text, []byte("{")) {
		type object Step // without this method; names are matched without regard to case
		return json.Unmarshal(text, (*object)(s))
	}
	started, took := int64(0), int64(notEnded)
	into := s.fields(&started, &took)
	if err := json.Unmarshal(text, &into); err != nil {
		return err
	}
	if started > 0 {
		s.StartedAt = new(time.UnixMilli(started).UTC())
	}
	if took != notEnded {
		s.EndedAt = new(time.UnixMilli(started + took).UTC())
	}
	if s.State == StepDone {
		s.Percent = 100
	}
	return nil
}
