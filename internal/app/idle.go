package app

import "time"

// IdleLook is how often a wait for a job looks whether workers run.
const IdleLook = 5 * time.Second

// idlePeriod is how long none may run until the wait is given up. A deploy takes seconds.
const idlePeriod = 10 * time.Second

// Idle decides whether a wait for a job is given up because no worker runs. The zero
// value is ready for use.
type Idle struct{ since time.Time }

// See takes a count of workers; known is false if they could not be counted. First: this
// is the first time that none runs. Over: none has been running for so long that the wait
// is over.
func (i *Idle) See(workers int, known bool, now time.Time) (first, over bool) {
	switch {
	case !known || workers > 0:
		i.since = time.Time{}
		return false, false
	case i.since.IsZero():
		i.since = now
		return true, false
	}
	return false, now.Sub(i.since) >= idlePeriod
}
