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

// The exit codes of every command; the help says them too.
const (
	exitFailed = 1 // failed or refused
	exitUsage  = 2 // called wrongly
	exitAway   = 3 // no answer from the API, no worker, or the wait was interrupted
)

// exit is an exit code that has been explained already.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// usageError is a call that cannot be carried out as it was written.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// interrupted is a wait that ended before its job did.
type interrupted struct {
	job   string // empty: it is not known whether the job was recorded
	again string // what to do to have the result in the end
	idle  bool   // no worker runs
}

func (e interrupted) Error() string { return e.refusal().Message }

// errStopped is an interrupt where nothing goes on.
var errStopped = &nexus.Error{Code: nexus.CodeCanceled, Op: "sandbox", Msg: "Stopped, and the sandbox with it; nothing was kept."}

// refusal is an error as a program reads it from standard output.
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

// failedJob is the end of a job that did not succeed.
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

// refuse sorts any error into what a caller needs: what, why, and what to do.
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
		return refusal{Code: "usage", Message: "The environment lacks what this command needs: " + wrong.Error()}
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
		r.Message = "The API wants a token for this, and none is set."
	}
	if answer, ok := errors.AsType[*client.Refusal](err); ok {
		r.RequestID, r.JobID = answer.RequestID, answer.JobID
	}
	return r
}

func (e interrupted) refusal() refusal {
	if e.job == "" {
		return refusal{Code: "interrupted", Message: "The call was interrupted; what it asked for may be under way.", Action: e.again}
	}
	watch := "Watch it with: nexus jobs watch " + e.job + "."
	if e.idle {
		return refusal{Code: "interrupted", Message: "No worker is running; the job is recorded and waits for one.", JobID: e.job,
			Action: join("Start one with: worker.", watch, e.again)}
	}
	return refusal{Code: "interrupted", Message: "The wait was ended; the job goes on.", JobID: e.job, Action: join(watch, e.again)}
}

// action is what to do about an error that a server, or its absence, gave.
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
		return "Free would be: " + e.Suggestion
	case e.Code == nexus.Unauthenticated && answered:
		return "Set NEXUS_API_TOKEN to a token of this server's NEXUS_TOKENS (nexus dev prints one, nexus init makes them)."
	case e.Code == nexus.Forbidden && answered:
		return "Set NEXUS_API_TOKEN to a token that may do this."
	case e.RetryAfter > 0:
		return "Try again in " + e.RetryAfter.Round(time.Second).String() + "."
	case e.Code == nexus.Unavailable && !answered && e.Op == "client":
		return "Say where it is with --server or NEXUS_API_URL."
	case e.Code == nexus.Unavailable && strings.HasPrefix(e.Op, "store."):
		return "Start Redis, or say where it is with REDIS_URL, as the workers know it."
	}
	return ""
}

// said is an error in a person's words; the cause stays in its chain.
type said struct {
	text  string
	cause error
}

func (e said) Error() string { return e.text }
func (e said) Unwrap() error { return e.cause }

// explain is an error as a person at a terminal wants it.
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

// exitCode is how a command ends after an error.
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

// wentOn tells whether an error is the end of a wait, and not of its job.
func wentOn(err error) bool {
	_, waited := errors.AsType[interrupted](err)
	_, left := errors.AsType[app.Unfinished](err)
	return waited || left
}

// join puts sentences side by side; empty ones leave no gap.
func join(parts ...string) string {
	return strings.TrimSpace(strings.Join(parts, " "))
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
