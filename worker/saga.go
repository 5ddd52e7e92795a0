package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// maxRescues is how many workers may lose the lease in one step before the step counts
// as the cause.
const maxRescues = 5

// forward runs the steps that are not done, in order.
func (r *run) forward(ctx context.Context) (over bool) {
	scoped, end := r.scope(ctx)
	defer end(nil)
	for {
		if err := r.boundary(scoped); err != nil {
			return r.turnOrLeave(ctx, "", err)
		}
		i := slices.IndexFunc(r.job.Steps, func(s nexus.Step) bool { return s.State != nexus.StepDone })
		if i < 0 {
			return r.succeed(ctx)
		}
		entry := &r.job.Steps[i]
		step, _ := r.process.Find(entry.Name) // the take has checked that it exists
		r.begin(entry)
		if step.Seal != nil && r.sealed == "" {
			var err error
			if r.fresh, err = step.Seal(r.kit(scoped, entry)); err != nil {
				return r.turnOrLeave(ctx, entry.Name, err)
			}
		}
		if !step.RecordOnly {
			if err := r.save(scoped); err != nil {
				return r.turnOrLeave(ctx, entry.Name, err)
			}
			if r.job.CancelAsked {
				return r.turn(ctx, entry.Name, nexus.ErrCanceled)
			}
		}
		if over, goOn := r.attempt(ctx, scoped, step, entry); !goOn {
			return over
		}
	}
}

// boundary returns why no further step may start; nil: it may.
func (r *run) boundary(ctx context.Context) error {
	switch {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case r.job.CancelAsked:
		return nexus.ErrCanceled
	case r.e.isDraining() || r.e.skewed(): // a worker with a wrong clock leaves its jobs to others
		return nexus.ErrDraining
	case r.lease.Time().After(r.job.GiveUpAt):
		return &nexus.Error{Code: nexus.Timeout, Op: "saga.give_up", Msg: "We could not finish your site in time, and nothing of it was kept."}
	case r.job.Rescues > maxRescues:
		return &nexus.Error{Code: nexus.Internal, Op: "saga.rescues",
			Msg: "Making your site failed on our side again and again, and nothing of it was kept.",
			Err: fmt.Errorf("%d workers lost the lease in this step", r.job.Rescues)}
	}
	return nil
}

// begin records the start of a step. It is journaled before Do runs, unless Do only writes
// the job's record itself.
func (r *run) begin(entry *nexus.Step) {
	now := r.e.Now().UTC().Truncate(time.Millisecond)
	entry.State, entry.EndedAt, entry.Percent = nexus.StepStarted, nil, 0
	entry.Starts++
	if entry.StartedAt == nil {
		entry.StartedAt = &now
	}
	r.pending = append(r.pending, nexus.Event{Step: entry.Name, StepState: nexus.StepStarted, Attempt: entry.Attempts + 1})
}

// attempt runs Do once and acts on its result. GoOn: the next step may begin.
func (r *run) attempt(ctx, scoped context.Context, step tasks.Step, entry *nexus.Step) (over, goOn bool) {
	started := r.e.Now()
	err := r.call(scoped, step, step.Do, entry)
	entry.Note = r.progress.note(entry.Note)
	r.e.Metrics.step(r.job.Kind, step.Name, err, r.e.Now().Sub(started))
	if err == nil {
		r.stepDone(ctx, entry, started)
		return false, true
	}
	if charges(err) {
		entry.Attempts++
		if nexus.CodeOf(err) == nexus.Internal {
			entry.Internals++
		}
	}
	decide := func(err error) Verdict {
		return Decide(Facts{Cause: context.Cause(scoped), Err: err, Attempts: entry.Attempts, Internals: entry.Internals, Allowed: step.Attempts,
			Proven: step.Proven, Raised: r.raised, Jitter: r.e.Jitter()})
	}
	v := decide(err)
	if v.Do == ActRaise {
		r.complain(ctx, "step failed", step.Name, entry.Attempts, err, v)
		if err = r.raise(ctx, scoped, err); err == nil {
			return false, true
		}
		v = decide(err)
	}
	if context.Cause(scoped) == nil {
		r.recordBenchFailure(ctx, entry.Name, err)
	}
	r.complain(ctx, "step failed", step.Name, entry.Attempts, err, v)
	if v.Do == ActWait { // when the job's time is over, boundary says so
		v.After = min(v.After, max(0, r.job.GiveUpAt.Sub(r.lease.Time())))
	}
	switch v.Do {
	case ActStop:
		return r.leave(ctx, nexus.ErrFenced), false
	case ActLeave:
		return r.leave(ctx, nexus.ErrDraining), false
	case ActWait:
		entry.State = nexus.StepFailed
		r.job.State = nexus.Waiting
		return r.rest(ctx, v, entry.Name, nexus.MessageOf(err)), false
	default:
		entry.State = nexus.StepFailed
		if errors.Is(context.Cause(scoped), nexus.ErrCanceled) {
			err = nexus.ErrCanceled
		}
		return r.turn(ctx, entry.Name, err), false
	}
}

// complain logs a failure and the verdict on it.
func (r *run) complain(ctx context.Context, what string, step nexus.StepName, attempts int, err error, v Verdict) {
	level := slog.LevelWarn
	if v.Do == ActLeave { // nothing failed: a successor goes on
		level = slog.LevelInfo
	}
	r.e.Log.Log(ctx, level, what, nexus.LogStep, string(step), nexus.LogAttempt, attempts,
		nexus.LogCode, string(nexus.CodeOf(err)), nexus.LogErr, err, "verdict", string(v.Do))
}

// recordBenchFailure counts a failure toward the bench's breaker, if the bench may be the cause.
func (r *run) recordBenchFailure(ctx context.Context, step nexus.StepName, err error) {
	code := nexus.CodeOf(err)
	if r.job.Bench == "" || (code != nexus.Unavailable && code != nexus.Timeout && code != nexus.Internal) {
		return
	}
	until, err := r.lease.BenchFailed(ctx, step, code)
	switch {
	case err != nil:
		r.e.Log.DebugContext(ctx, "failure not counted", nexus.LogErr, err)
	case !until.IsZero():
		r.e.Metrics.tripped.WithLabelValues(r.job.Bench).Inc()
		r.e.Log.ErrorContext(ctx, "bench paused by its breaker", "bench", r.job.Bench, nexus.LogStep, string(step),
			nexus.LogCode, string(code), "until", until)
	}
}

func (r *run) stepDone(ctx context.Context, entry *nexus.Step, started time.Time) {
	entry.State, entry.EndedAt, entry.Percent = nexus.StepDone, new(r.e.Now().UTC().Truncate(time.Millisecond)), 100
	entry.Attempts++
	r.moved, r.raised = entry.Name, false
	r.pending = append(r.pending, nexus.Event{Step: entry.Name, StepState: nexus.StepDone, Attempt: entry.Attempts, Note: entry.Note})
	r.e.Log.InfoContext(ctx, "step done", nexus.LogStep, string(entry.Name), nexus.LogDur, r.e.Now().Sub(started).Milliseconds())
}

// raise takes a token above the one that the bench has seen: after a failover Redis may
// mint below it. The error says why there is none: another owner, a corrupt token, or the
// end of this run.
func (r *run) raise(ctx, scoped context.Context, refused error) error {
	var seen nexus.Gen
	if e, ok := errors.AsType[*nexus.Error](refused); ok {
		seen = e.Seen
	}
	if !seen.Plausible(r.lease.Time()) {
		return nexus.CorruptGen("saga.raise", seen)
	}
	err := r.write(scoped, "token not raised", func() error { return r.lease.Raise(ctx, seen) })
	if err == nil {
		r.raised = true
		r.e.Metrics.raised.Inc()
	}
	return err
}

// call runs one Do or Undo under the step's deadline. A panic becomes an internal error,
// with its stack in the log only.
func (r *run) call(ctx context.Context, step tasks.Step, do func(context.Context, *tasks.Kit) error, entry *nexus.Step) (err error) {
	until := r.e.Now().Add(step.Timeout + hungGrace)
	r.renewUntil.Store(&until)
	defer r.renewUntil.Store(nil)
	timed, stop := context.WithTimeoutCause(ctx, step.Timeout, nexus.ErrStepTimeout)
	defer stop()
	defer func() {
		if p := recover(); p != nil {
			r.e.Log.ErrorContext(ctx, "step panicked", nexus.LogStep, string(step.Name), "panic", nexus.PanicText(p), "stack", string(debug.Stack()))
			err = &nexus.Error{Code: nexus.Internal, Op: "saga.call", Msg: nexus.MessageOf(nil), Err: errors.New("panic: " + nexus.PanicText(p))}
		}
	}()
	r.progress.open()
	defer r.progress.close()
	err = do(timed, r.kit(timed, entry))
	// A step that ran into its deadline may return any error.
	if err != nil && errors.Is(context.Cause(timed), nexus.ErrStepTimeout) && nexus.CodeOf(err) != nexus.Fenced {
		err = &nexus.Error{Code: nexus.Timeout, Op: "saga." + string(step.Name), Msg: "This step took too long.", Err: err}
	}
	return err
}

// succeed ends the job as succeeded; for a provision this is the commit point. If a cancel
// was asked before, the job is rolled back instead.
func (r *run) succeed(ctx context.Context) (over bool) {
	if err := r.job.To(nexus.Succeeded); err != nil {
		return r.turn(ctx, "", err)
	}
	last := nexus.Event{Step: r.job.Current(), StepState: nexus.StepDone}
	if entry := r.job.Step(last.Step); entry != nil {
		last.Attempt = entry.Attempts
	}
	err := r.finish(ctx, last)
	if err == nil {
		return true
	}
	r.job.State = nexus.Running
	if nexus.CodeOf(err) == nexus.Internal && !errors.Is(err, nexus.ErrDraining) {
		// Everything is made and verified; only the record cannot be written.
		r.e.Log.ErrorContext(ctx, "end not written", nexus.LogErr, err)
		r.job.State = nexus.Waiting
		return r.rest(ctx, Verdict{Do: ActWait, After: longestDelay, For: nexus.WaitRetry}, r.job.Current(), nexus.MessageOf(err))
	}
	return r.turnOrLeave(ctx, r.job.Current(), err)
}

// turnOrLeave acts on the reason that stopped the saga between two steps.
func (r *run) turnOrLeave(ctx context.Context, at nexus.StepName, why error) bool {
	if errors.Is(why, nexus.ErrDraining) && r.moved != "" {
		_ = r.save(ctx) // what is done stays done, unless the lease is given up already
	}
	if errors.Is(why, nexus.ErrFenced) || errors.Is(why, nexus.ErrDraining) {
		return r.leave(ctx, why)
	}
	if at == "" {
		at = r.job.Current()
	}
	return r.turn(ctx, at, why)
}
