package nexus

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an error once, where it is born. The text is stored and sent.
type Code string

// The whole taxonomy; HTTPStatus and the worker's verdict are functions of it.
const (
	Invalid         Code = "invalid"
	Unauthenticated Code = "unauthenticated"
	Forbidden       Code = "forbidden"
	NotFound        Code = "not_found"
	Conflict        Code = "conflict"
	Limit           Code = "limit"
	Unavailable     Code = "unavailable"
	Timeout         Code = "timeout"
	CodeCanceled    Code = "canceled"
	Draining        Code = "draining"
	Fenced          Code = "fenced"
	UndoFailed      Code = "undo_failed"
	Internal        Code = "internal"
)

// Codes lists all codes.
func Codes() []Code {
	return []Code{Invalid, Unauthenticated, Forbidden, NotFound, Conflict, Limit, Unavailable, Timeout, CodeCanceled, Draining, Fenced,
		UndoFailed, Internal}
}

// Reason tells refusals of one code apart, for programs. The text is sent.
type Reason string

// The reasons; docs/PROBLEMS.md says what to do about each.
const (
	ReasonNameTaken    Reason = "name_taken"    // conflict: the address, or the e-mail in single-tenant mode
	ReasonNameReserved Reason = "name_reserved" // conflict: nobody may have the address
	ReasonBusy         Reason = "busy"          // conflict: another job works on the tenant
	ReasonTenantState  Reason = "tenant_state"  // conflict: the tenant is in no state for the call
	ReasonKeyReused    Reason = "key_reused"    // conflict: an idempotency key with another request
	ReasonGone         Reason = "gone"          // conflict: the credentials can no longer be picked up
	ReasonNotReady     Reason = "not_ready"     // conflict: there are no credentials yet
	ReasonJobState     Reason = "job_state"     // conflict: the job is in no state for the call
	ReasonRateLimited  Reason = "rate_limited"  // limit: too many signups in an hour
	ReasonSignupClosed Reason = "signup_closed" // forbidden: nobody may sign up
)

// HTTPStatus is the status an API answers with for a code. Draining and fenced
// are never sent; they map to 503 so that a slip is at least retryable.
func (c Code) HTTPStatus() int {
	switch c {
	case Invalid:
		return 400
	case Unauthenticated:
		return 401
	case Forbidden:
		return 403
	case NotFound:
		return 404
	case Conflict, CodeCanceled:
		return 409
	case Limit:
		return 429
	case Unavailable, Draining, Fenced:
		return 503
	case Timeout:
		return 504
	default:
		return 500
	}
}

// Error is the one error type that crosses package borders.
type Error struct {
	Code Code
	Op   string // where, for operators: "bench.new_site"
	Msg  string // one or two sentences, safe for people
	Err  error  // the cause, for operators; redacted by who made it; may be nil

	Reason     Reason        // what it is, more closely than the code says; empty: the code says all
	Action     string        // what to do about it, if Msg does not say it
	Fields     []FieldError  // for invalid input, one per field
	Suggestion string        // a name that would do instead
	Limit      string        // of a caller's: which one was used up
	RetryAfter time.Duration // zero: no advice
	Wait       Wait          // what a limit or an outage waits for; empty: retry
	Unbegun    bool          // an outage that kept the deed from beginning: charges no attempt
	Seen       Gen           // with fenced: the highest gen the bench has seen
	Outdated   bool          // with conflict: a job that was submitted later has changed the site's state
}

// FieldError is one refusal of a form field, in one sentence for people.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is the operator's text: operation, code, message and cause.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s: %s", e.Op, e.Code, e.Msg)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf reads the code of an error; an error nobody classified is internal,
// nil has no code.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// MessageOf is what a person may read of an error. An unclassified error says
// nothing of its inside.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Msg != "" {
		return e.Msg
	}
	return "Something went wrong on our side. It was noted; please try again in a moment."
}

// IsOutdated tells whether the bench refused an operation since a job that was
// submitted later has changed the site's state.
func IsOutdated(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Outdated
}

// The causes a run's context ends with. Code reads context.Cause, never the
// bare error: only ErrCanceled may start a compensation.
var (
	// ErrCanceled says that a person asked for the job's end.
	ErrCanceled = errors.New("canceled by request")
	// ErrDraining says that this process is leaving; the job goes on elsewhere.
	ErrDraining = errors.New("worker is draining")
	// ErrFenced says that another run owns the job now; this one says no more.
	ErrFenced = errors.New("fenced by a newer run")
	// ErrStepTimeout says that the step's own deadline passed.
	ErrStepTimeout = errors.New("step deadline passed")
)
