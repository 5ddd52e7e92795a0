package nexus

import "time"

// Event is one change of a job, for the people who watch it. Rev orders the events of a
// job.
type Event struct {
	Rev       int64     `json:"rev"`
	At        time.Time `json:"at"`
	State     State     `json:"state"`
	Step      StepName  `json:"step,omitempty"`
	StepState StepState `json:"stepState,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`
	Percent   int       `json:"percent,omitempty"`
	Note      string    `json:"note,omitempty"`
	Actor     string    `json:"actor,omitempty"` // who asked for it, for operators only
}
