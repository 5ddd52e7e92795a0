package nexus

import (
	"bytes"
	"encoding/json"
	"strconv"
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

// StepsText returns the stored form of a job's steps: what json.Marshal returns, in half the
// time.
func StepsText(steps []Step) string {
	out := []byte{'['}
	for i, step := range steps {
		if i > 0 {
			out = append(out, ',')
		}
		out = step.append(out)
	}
	return string(append(out, ']'))
}

// MarshalJSON writes the stored form. Times are cut to milliseconds.
func (s Step) MarshalJSON() ([]byte, error) { return s.append(nil), nil }

func (s Step) append(out []byte) []byte {
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
	separator := byte('[')
	for _, field := range all {
		out = append(out, separator)
		separator = ','
		switch n := field.(type) {
		case *int:
			out = strconv.AppendInt(out, int64(*n), 10)
		case *int64:
			out = strconv.AppendInt(out, *n, 10)
		default:
			text, _ := json.Marshal(field) // a string: cannot fail
			out = append(out, text...)
		}
	}
	return append(out, ']')
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
