package nexus

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an error. It is set once, where the error occurs. The text is stored
// and sent.
type Code string

// The codes. HTTPStatus and the worker's verdict depend on nothing else.
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

// Reason distinguishes refusals with the same code, for programs. The text is sent.
type Reason string

// The reasons; docs/PROBLEMS.md says what to do about each.
const (
	ReasonNameTaken    Reason = "name_taken"    // conflict: the address, or the e-mail in single-tenant mode
	ReasonNameReserved Reason = "name_reserved" // conflict: nobody may have the address
	ReasonBusy         Reason = "busy"          // conflict: another job works on the tenant
	ReasonTenantState  Reason = "tenant_state"  // conflict: the tenant's state does not allow the call
	ReasonKeyReused    Reason = "key_reused"    // conflict: an idempotency key with another request
	ReasonGone         Reason = "gone"          // conflict: the credentials can no longer be picked up
	ReasonNotReady     Reason = "not_ready"     // conflict: there are no credentials yet
	ReasonJobState     Reason = "job_state"     // conflict: the job's state does not allow the call
	ReasonRateLimited  Reason = "rate_limited"  // limit: too many signups in an hour
	ReasonSignupClosed Reason = "signup_closed" // forbidden: nobody may sign up
)

// HTTPStatus is the HTTP status of a code. Draining and fenced should never reach a
// client; they map to 503, so that one that does can be retried.
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

// Error is the only error type that is passed between packages.
type Error struct {
	Code Code
	Op   string // where, for operators: "bench.new_site"
	Msg  string // one or two sentences, safe for people
	Err  error  // the cause, for operators, without secrets; may be nil

	Reason     Reason        // more specific than the code; empty: none
	Action     string        // what to do about it, if Msg does not say so
	Fields     []FieldError  // for invalid input, one per field
	Suggestion string        // a free name, if the name asked for is taken
	Limit      string        // the rate limit that was reached
	RetryAfter time.Duration // zero: not known
	Wait       Wait          // what a job waits for after a limit or an outage; empty: retry
	Unbegun    bool          // the operation did not begin: no attempt is charged
	Seen       Gen           // with fenced: the highest gen the bench has seen
	Outdated   bool          // with conflict: a job that was submitted later has changed the site's state
}

// FieldError says in one sentence why a form field is refused.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error returns the text for operators: operation, code, message and cause.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s: %s", e.Op, e.Code, e.Msg)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of an error: internal if the error is not an *Error, empty
// for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// MessageOf returns the text of an error that is safe to show. For an error that is not
// an *Error it is a general sentence.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Msg != "" {
		return e.Msg
	}
	return "Something went wrong on our side. It was noted; please try again in a moment."
}

// IsOutdated reports whether the bench refused an operation because a job that was
// submitted later has changed the site's state.
func IsOutdated(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Outdated
}

// The causes with which the context of a run is canceled. Code must read context.Cause
// and not ctx.Err: only ErrCanceled may start a rollback.
var (
	// ErrCanceled: somebody canceled the job.
	ErrCanceled = errors.New("canceled by request")
	// ErrDraining: this worker stops; another one continues the job.
	ErrDraining = errors.New("worker is draining")
	// ErrFenced: another run owns the job now; this one must write nothing more.
	ErrFenced = errors.New("fenced by a newer run")
	// ErrStepTimeout: the step's deadline has passed.
	ErrStepTimeout = errors.New("step deadline passed")
)
