package worker

import (
	"errors"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Action is what the engine does after a step that failed.
type Action string

// The actions.
const (
	ActWait       Action = "wait"       // wait, then try the step again
	ActCompensate Action = "compensate" // roll the job back
	ActStop       Action = "stop"       // another run owns the job: write nothing more
	ActLeave      Action = "leave"      // this worker drains: another one continues the job at once
	ActRaise      Action = "raise"      // the token is too low although the lease is valid: take a higher one
	ActPark       Action = "park"       // an undo keeps failing: an operator must look
)

// Verdict is an action, and for a wait how long and what for.
type Verdict struct {
	Do    Action
	After time.Duration
	For   nexus.Wait
}

// Facts are everything that a verdict depends on.
type Facts struct {
	Cause     error   // why the run's context ended; nil if it did not
	Err       error   // the error of Do or Undo
	Attempts  int     // charged failures so far, with this one
	Internals int     // how many of them were internal errors
	Allowed   int     // the step's number of attempts
	Proven    bool    // the site was verified before this step
	Undo      bool    // an Undo failed, not a Do
	Raised    bool    // the token was raised already and is still too low
	Jitter    float64 // 0 ≤ Jitter < 1, drawn by the caller
}

const (
	undoAttempts     = 8 // of one Undo, before a job is parked
	internalAttempts = 3 // of a Do that fails with internal errors
	firstDelay       = time.Second
	longestDelay     = time.Minute
	longestAdvice    = time.Hour // the longest delay that a bench may ask of a rollback
)

// Decide returns the action that follows an error of a step. It is pure.
func Decide(f Facts) Verdict {
	code := nexus.CodeOf(f.Err)
	switch {
	case errors.Is(f.Cause, nexus.ErrFenced) || errors.Is(f.Err, nexus.ErrFenced):
		return Verdict{Do: ActStop}
	case code == nexus.Fenced && !f.Raised: // twice in a row the bench is the cause, and the step waits
		return Verdict{Do: ActRaise}
	case errors.Is(f.Cause, nexus.ErrDraining) || errors.Is(f.Err, nexus.ErrDraining) || code == nexus.Draining:
		return Verdict{Do: ActLeave}
	case f.Undo && f.Attempts >= undoAttempts && !unbegun(f.Err) && code != nexus.Limit:
		return Verdict{Do: ActPark}
	case f.Undo: // nothing else bounds the time of a rollback
		return Verdict{Do: ActWait, After: min(adviceOr(f, backoff(f)), longestAdvice), For: reason(f)}
	case errors.Is(f.Cause, nexus.ErrCanceled):
		return Verdict{Do: ActCompensate}
	}
	switch code {
	case nexus.Invalid, nexus.Unauthenticated, nexus.Forbidden, nexus.NotFound, nexus.Conflict:
		return Verdict{Do: ActCompensate}
	case nexus.Limit:
		return Verdict{Do: ActWait, After: adviceOr(f, backoff(f)), For: reason(f)}
	}
	if spent(f, code) && !unbegun(f.Err) {
		return Verdict{Do: ActCompensate}
	}
	return Verdict{Do: ActWait, After: adviceOr(f, backoff(f)), For: reason(f)}
}

// spent tells whether the step's attempts are used up: each step has a number of its own
// for outages, and three for internal errors. Internal errors never undo a site that was
// verified once.
func spent(f Facts, code nexus.Code) bool {
	if code != nexus.Internal {
		return f.Attempts-f.Internals >= f.Allowed
	}
	return !f.Proven && f.Internals >= min(f.Allowed, internalAttempts)
}

// backoff doubles from one second to one minute. Its upper half is jitter, so that jobs
// that failed together do not retry together.
func backoff(f Facts) time.Duration {
	d := longestDelay
	if f.Attempts < 7 {
		d = min(longestDelay, firstDelay<<max(f.Attempts-1, 0))
	}
	return d/2 + time.Duration(f.Jitter*float64(d/2))
}

func adviceOr(f Facts, d time.Duration) time.Duration {
	if e, ok := errors.AsType[*nexus.Error](f.Err); ok && e.RetryAfter > 0 {
		return e.RetryAfter
	}
	return d
}

func reason(f Facts) nexus.Wait {
	if e, ok := errors.AsType[*nexus.Error](f.Err); ok && e.Wait != "" {
		return e.Wait
	}
	return nexus.WaitRetry
}

// charges tells whether a failure counts against the step's attempts. A wait for a slot
// does not, nor an operation that never began.
func charges(err error) bool {
	code := nexus.CodeOf(err)
	return code != nexus.Limit && code != nexus.Fenced && !unbegun(err)
}

func unbegun(err error) bool {
	e, ok := errors.AsType[*nexus.Error](err)
	return ok && e.Unbegun
}
