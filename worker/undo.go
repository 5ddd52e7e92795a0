package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// turn begins the rollback: it journals the reason, then undoes the steps. A job of a kind
// that cannot be rolled back is parked instead, unless it has changed nothing.
func (r *run) turn(ctx context.Context, at nexus.StepName, why error) bool {
	r.job.Error, r.outdated = reasonFor(r.job.Kind, at, why), nexus.IsOutdated(why)
	if err := r.job.To(nexus.RollingBack); err != nil {
		return r.leave(ctx, err)
	}
	r.job.WaitingFor, r.job.WaitNote = "", ""
	if r.job.Kind.OneWay() && !untouched(&r.job) && !r.outdated {
		return r.park(ctx, at, r.job.Error.Message)
	}
	r.e.Log.WarnContext(ctx, "rollback started", nexus.LogStep, string(at), nexus.LogCode, string(r.job.Error.Code))
	r.pending = append(r.pending, nexus.Event{Step: at, StepState: nexus.StepFailed, Note: r.job.Error.Message})
	r.moved = at // the rescues of the failed step do not count for the undo
	r.undoing.Store(true)
	if err := r.save(ctx); err != nil {
		return r.leave(ctx, err)
	}
	r.job.Rescues = 0
	return r.backward(ctx)
}

// untouched tells whether a job has changed nothing: its first step was started once, and
// the bench refused it for good.
func untouched(job *nexus.Job) bool {
	switch job.Error.Code {
	case nexus.Invalid, nexus.Unauthenticated, nexus.Forbidden, nexus.NotFound, nexus.Conflict:
	default:
		return false
	}
	for i, step := range job.Steps {
		if step.State != nexus.StepPending && (i > 0 || step.State != nexus.StepFailed || step.Starts > 1) {
			return false
		}
	}
	return true
}

// backward undoes every step that may have changed something, in reverse. It cannot be
// canceled; it stops only for a newer owner or at a drain.
func (r *run) backward(ctx context.Context) (over bool) {
	r.undoing.Store(true)
	scoped, end := r.scope(ctx)
	defer end(nil)
	for i := len(r.job.Steps) - 1; i >= 0; i-- {
		entry := &r.job.Steps[i]
		if entry.State == nexus.StepPending || entry.State == nexus.StepUndone {
			continue
		}
		switch {
		case context.Cause(scoped) != nil:
			return r.leave(ctx, context.Cause(scoped))
		case r.e.isDraining():
			return r.leave(ctx, nexus.ErrDraining)
		case r.job.Rescues > maxRescues:
			return r.park(ctx, entry.Name, "Undoing this step failed on our side again and again.")
		}
		if over, goOn := r.undo(ctx, scoped, entry); !goOn {
			return over
		}
	}
	next := nexus.Failed
	if r.job.Error != nil && r.job.Error.Code == nexus.CodeCanceled {
		next = nexus.Canceled
	}
	note := "nothing was left behind"
	if r.outdated {
		note = "the site was left as it is"
	} else {
		r.job.Error.SayNothingLeft()
	}
	if err := r.job.To(next); err != nil {
		return r.leave(ctx, err)
	}
	if err := r.finish(ctx, nexus.Event{Note: note}); err != nil {
		return r.leave(ctx, err)
	}
	return true
}

// undo runs one Undo and acts on its result.
func (r *run) undo(ctx, scoped context.Context, entry *nexus.Step) (over, goOn bool) {
	step, _ := r.process.Find(entry.Name)
	for step.Undo != nil {
		err := r.call(scoped, step, step.Undo, entry)
		if err == nil {
			break
		}
		if nexus.IsOutdated(err) { // a later job has changed the site: nothing of this one is left to undo
			r.outdated, r.job.Error = true, reasonFor(r.job.Kind, entry.Name, err)
			break
		}
		decide := func(err error) Verdict {
			if charges(err) || nexus.CodeOf(err) == nexus.Fenced && r.raised { // charged, so that it does not go on forever
				entry.Undos++
			}
			return Decide(Facts{Cause: context.Cause(scoped), Err: err, Attempts: entry.Undos, Undo: true, Raised: r.raised, Jitter: r.e.Jitter()})
		}
		v := decide(err)
		if v.Do == ActRaise {
			r.complain(ctx, "undo failed", entry.Name, entry.Undos, err, v)
			if err = r.raise(ctx, scoped, err); err == nil {
				continue
			}
			v = decide(err)
		}
		r.complain(ctx, "undo failed", entry.Name, entry.Undos, err, v)
		switch v.Do {
		case ActStop:
			return r.leave(ctx, nexus.ErrFenced), false
		case ActLeave:
			return r.leave(ctx, nexus.ErrDraining), false
		case ActPark:
			return r.park(ctx, entry.Name, nexus.MessageOf(err)), false
		default:
			return r.rest(ctx, v, entry.Name, "Cleaning up needs another try."), false
		}
	}
	entry.State = nexus.StepUndone
	r.moved, r.raised = entry.Name, false
	r.pending = append(r.pending, nexus.Event{Step: entry.Name, StepState: nexus.StepUndone})
	if step.Undo == nil && entry != &r.job.Steps[0] {
		return false, true // journalled with the step that removes what it made
	}
	if err := r.save(scoped); err != nil {
		return r.leave(ctx, err), false
	}
	return false, true
}

// park stops the job until an operator resumes it; it keeps its site name.
func (r *run) park(ctx context.Context, at nexus.StepName, message string) bool {
	first := r.job.Error
	if first != nil && first.First != nil { // parked before
		first = first.First
	}
	if first != nil && first.Message != message {
		message += " It was being undone because: " + first.Message
	}
	r.job.Error = &nexus.Failure{Code: nexus.UndoFailed, Step: at, First: first, Message: message,
		Action: "An operator has to look at the bench and resume this job; it keeps its name until then."}
	if err := r.job.To(nexus.RollbackFailed); err != nil {
		return r.leave(ctx, err)
	}
	if err := r.finish(ctx, nexus.Event{Step: at, Note: message}); err != nil {
		return r.leave(ctx, err)
	}
	return true
}

// reasonFor describes an error for the person who waits for the job.
func reasonFor(kind nexus.Kind, at nexus.StepName, why error) *nexus.Failure {
	f := &nexus.Failure{Code: nexus.CodeOf(why), Step: at, Message: nexus.MessageOf(why)}
	switch {
	case errors.Is(why, nexus.ErrCanceled):
		return nexus.WhyCanceled(kind, at)
	case nexus.IsOutdated(why):
		f.Action = "The site was left as it is. Redis was probably restored from a backup that is older than the site: an operator compares the two with nexus doctor."
	case f.Code == nexus.Invalid || f.Code == nexus.NotFound || f.Code == nexus.Conflict || f.Code == nexus.Forbidden:
		f.Action = "Trying the same again will not help; please contact support with the job's id."
	case kind != nexus.KindProvision: // an operator asked for it
		f.Action = "Ask for it again; if it fails once more, look for the job's id in the log of the workers."
	default:
		f.Action = "Please sign up again; if it fails once more, contact support with the job's id."
	}
	if f.Message == "" {
		f.Message = fmt.Sprintf("The step %s failed.", at)
	}
	return f
}
