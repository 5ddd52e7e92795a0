package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nexus-erp/provisioner/api/client"
	"github.com/nexus-erp/provisioner/api/gen"
	"github.com/nexus-erp/provisioner/internal/app"
	"github.com/nexus-erp/provisioner/internal/nexus"
)

// The exit codes of every command, as in the help.
const (
	exitFailed = 1 // failed or refused
	exitUsage  = 2 // called wrongly
	exitAway   = 3 // no answer from the API, no worker, or the wait was interrupted
)

// exit is an exit code whose reason is printed already.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// usageError is the error of a wrong call.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// interrupted is the error of a wait that ended before its job.
type interrupted struct {
	job   string // empty: it is not known whether the job was recorded
	again string // what to do to get the result
	idle  bool   // no worker runs
}

func (e interrupted) Error() string { return e.refusal().Message }

// errStopped is the error of an interrupt that also stops the job.
var errStopped = &nexus.Error{Code: nexus.CodeCanceled, Op: "sandbox", Msg: "Stopped, and the sandbox with it; nothing was kept."}

// refusal is the JSON of an error.
type refusal struct {
	Code       string             `json:"code"`
	Message    string             `json:"message"`
	Action     string             `json:"action,omitempty"`
	Suggestion string             `json:"suggestion,omitempty"`
	Errors     []nexus.FieldError `json:"errors,omitempty"`
	Step       string             `json:"step,omitempty"`
	JobID      string             `json:"jobId,omitempty"`
	RequestID  string             `json:"requestId,omitempty"`
}

// failedJob is the error of a job that did not succeed.
type failedJob struct{ gen.Job }

func (e failedJob) Error() string { return e.refusal().Message }

func (e failedJob) refusal() refusal {
	r := refusal{Code: string(e.State), Message: fmt.Sprintf("The job ended as %s.", e.State), JobID: e.Id}
	if f := e.Job.Error; f != nil {
		r.Code, r.Message, r.Action = f.Code, f.Message, value(f.Action)
		r.Step, r.RequestID = value(f.Step), value(f.RequestId)
	}
	if e.State == gen.StateRollbackFailed {
		r.Action = join(r.Action, "Its rollback failed; once the cause is mended: nexus jobs resume "+e.Id)
	}
	return r
}

// refuse turns any error into a code, a message and what to do.
func refuse(err error) refusal {
	if stop, ok := errors.AsType[interrupted](err); ok {
		return stop.refusal()
	}
	if left, ok := errors.AsType[app.Unfinished](err); ok {
		return interrupted{job: string(left.Job), idle: left.Idle}.refusal()
	}
	if wrong, ok := errors.AsType[usageError](err); ok {
		return refusal{Code: "usage", Message: wrong.text}
	}
	if wrong, ok := errors.AsType[app.Misconfigured](err); ok {
		return refusal{Code: "usage", Message: "Settings that this command needs are missing or wrong: " + wrong.Error()}
	}
	if job, ok := errors.AsType[failedJob](err); ok {
		return job.refusal()
	}
	e, ok := errors.AsType[*nexus.Error](err)
	if ok && e.Op == "client" && errors.Is(err, context.Canceled) {
		return interrupted{again: "Look with: nexus jobs list"}.refusal()
	}
	if !ok {
		return refusal{Code: string(nexus.Internal), Message: err.Error()}
	}
	r := refusal{Code: string(e.Code), Message: e.Msg, Suggestion: e.Suggestion, Errors: e.Fields, Action: action(e)}
	if e.Code == nexus.Unauthenticated && token() == "" {
		r.Message = "The API needs a token for this, and none is set."
	}
	if answer, ok := errors.AsType[*client.Refusal](err); ok {
		r.RequestID, r.JobID = answer.RequestID, answer.JobID
	}
	return r
}

func (e interrupted) refusal() refusal {
	if e.job == "" {
		return refusal{Code: "interrupted", Message: "The call was interrupted; the job may have been recorded.", Action: e.again}
	}
	watch := "Watch it with: nexus jobs watch " + e.job + "."
	if e.idle {
		return refusal{Code: "interrupted", Message: "No worker is running; the job is recorded and waits for one.", JobID: e.job,
			Action: join("Start one with: worker.", watch, e.again)}
	}
	return refusal{Code: "interrupted", Message: "The wait was interrupted; the job goes on.", JobID: e.job, Action: join(watch, e.again)}
}

// action returns what to do about an error.
func action(e *nexus.Error) string {
	_, answered := errors.AsType[*client.Refusal](e)
	switch {
	case len(e.Fields) > 0 && e.Suggestion == "":
		texts := make([]string, len(e.Fields))
		for i, f := range e.Fields {
			texts[i] = f.Field + ": " + f.Message
		}
		return strings.Join(texts, " ")
	case e.Suggestion != "":
		return "This address is free: " + e.Suggestion
	case e.Code == nexus.Unauthenticated && answered:
		return "Set NEXUS_API_TOKEN to a token of this server's NEXUS_TOKENS (nexus dev prints one, nexus init makes them)."
	case e.Code == nexus.Forbidden && answered:
		return "Set NEXUS_API_TOKEN to a token with the scope for this."
	case e.RetryAfter > 0:
		return "Try again in " + e.RetryAfter.Round(time.Second).String() + "."
	case e.Code == nexus.Unavailable && !answered && e.Op == "client":
		return "Set its address with --server or NEXUS_API_URL."
	case e.Code == nexus.Unavailable && strings.HasPrefix(e.Op, "store."):
		return "Start Redis, or set REDIS_URL as for the workers."
	}
	return ""
}

// said is an error with the text to print. It wraps the cause.
type said struct {
	text  string
	cause error
}

func (e said) Error() string { return e.text }
func (e said) Unwrap() error { return e.cause }

// explain returns an error with the text to print.
func explain(err error) error {
	if _, done := errors.AsType[said](err); done || err == nil {
		return err
	}
	r := refuse(err)
	text := r.Message
	for _, f := range r.Errors {
		if f.Message != r.Message {
			text += "\n  " + f.Field + ": " + f.Message
		}
	}
	if r.Action != "" && (len(r.Errors) == 0 || r.Suggestion != "") {
		text += "\n  " + r.Action
	}
	if _, ended := errors.AsType[failedJob](err); ended {
		text += "\n  (job " + r.JobID + ")"
	}
	if e, ok := errors.AsType[*nexus.Error](err); ok && e.Err != nil {
		text += "\n  (" + e.Err.Error() + ")"
	}
	return said{text, err}
}

// exitCode is the exit code for an error.
func exitCode(err error) int {
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[app.Misconfigured](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[failedJob](err); ok {
		return exitFailed
	}
	if wentOn(err) || nexus.CodeOf(err) == nexus.Unavailable {
		return exitAway
	}
	return exitFailed
}

// wentOn reports whether an error ended a wait, and its job goes on.
func wentOn(err error) bool {
	_, waited := errors.AsType[interrupted](err)
	_, left := errors.AsType[app.Unfinished](err)
	return waited || left
}

// join joins sentences with spaces.
func join(parts ...string) string {
	return strings.TrimSpace(strings.Join(parts, " "))
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
