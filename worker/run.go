package worker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// hungGrace is how long after a step's deadline the lease is still renewed. A Do that
// ignores its context then loses the job.
const hungGrace = 15 * time.Second

// run is the work of one owner on one job, from taking the lease to leaving it.
type run struct {
	e       *Engine
	lease   *store.Lease
	process tasks.Process
	job     nexus.Job
	pending []nexus.Event  // written with the next checkpoint
	moved   nexus.StepName // a step that ended since the last checkpoint; empty: none
	fresh   string         // new credentials, sealed, that the next checkpoint stores; empty: none
	sealed  string         // the job's credentials, sealed; empty until a step uses them
	raised  bool           // the token was raised since the last step that ended

	renewUntil atomic.Pointer[time.Time] // nil: no limit; on the monotonic clock, which is never set
	mu         sync.Mutex                // guards end
	end        context.CancelCauseFunc
	undoing    atomic.Bool // cancel no longer matters
	outdated   bool        // a job that was submitted later has changed the site's state
	progress   progress
}

func newRun(e *Engine, lease *store.Lease, job nexus.Job) *run {
	return &run{e: e, lease: lease, job: job, process: e.processes[job.Kind], end: func(error) {}}
}

// work continues the job and renews its lease meanwhile.
func (r *run) work(ctx context.Context) (over bool) {
	keeping, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { r.keepLease(keeping) })
	// After a panic or runtime.Goexit the lease is not renewed any more, and expires.
	defer done.Wait()
	defer stop()
	if r.job.State == nexus.RollingBack {
		return r.backward(ctx)
	}
	return r.forward(ctx)
}

// keepLease renews the lease until the run ends. Only the reply "stale" fences the run:
// while Redis does not answer, the operation goes on.
func (r *run) keepLease(ctx context.Context) {
	tick := time.NewTicker(r.e.Renew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if until := r.renewUntil.Load(); until != nil && r.e.Now().After(*until) {
			r.e.Log.ErrorContext(ctx, "step hung past its deadline, lease no longer renewed")
			return
		}
		r.renewOnce(ctx)
	}
}

func (r *run) renewOnce(ctx context.Context) {
	one, cancel := context.WithTimeout(ctx, store.LeaseTime)
	defer cancel()
	asked, err := r.lease.Renew(one)
	switch {
	case errors.Is(err, nexus.ErrFenced):
		r.finishWith(nexus.ErrFenced)
	case err != nil && ctx.Err() == nil:
		r.e.Log.WarnContext(ctx, "lease not renewed", nexus.LogErr, err)
	case err == nil && asked && !r.undoing.Load():
		r.finishWith(nexus.ErrCanceled)
	}
}

// finishWith cancels the current step's context with a cause.
func (r *run) finishWith(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(cause)
}

// scope makes the context of the next phase: the steps, or their undo.
func (r *run) scope(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	scoped, end := context.WithCancelCause(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end = end
	return scoped, end
}

// save writes the journal with all pending events.
func (r *run) save(ctx context.Context) error {
	return r.write(ctx, "journal not written", func() error {
		asked, sealed, err := r.lease.Seal(ctx, &r.job, r.moved, r.fresh, r.pending...)
		if err == nil {
			if r.fresh != "" {
				r.fresh, r.sealed = "", sealed
			}
			r.pending, r.moved = r.pending[:0], ""
			r.job.CancelAsked = r.job.CancelAsked || asked
		}
		return err
	})
}

// write writes the job's record. While Redis does not answer it tries again, since no step
// may start before the journal is written. It gives up only for a newer owner or when
// this worker drains.
func (r *run) write(ctx context.Context, complaint string, once func() error) error {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		err := once()
		if nexus.CodeOf(err) != nexus.Unavailable {
			return err
		}
		r.e.Log.WarnContext(ctx, complaint, nexus.LogErr, err)
		if err := r.pause(ctx, delay); err != nil {
			return err
		}
	}
}

// pause waits for a time; it ends early when the run ends or the worker drains.
func (r *run) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.e.draining:
		return nexus.ErrDraining
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leave gives the job back for the given reason; another worker continues it.
func (r *run) leave(ctx context.Context, why error) bool {
	switch {
	case errors.Is(why, nexus.ErrFenced):
		r.e.Metrics.fenced.Inc()
		r.e.Log.InfoContext(ctx, "fenced by a newer run")
	default:
		if err := r.lease.GiveUp(ctx); err != nil && !errors.Is(err, nexus.ErrFenced) {
			r.e.Log.WarnContext(ctx, "lease not given up", nexus.LogErr, err)
		}
		r.e.Log.InfoContext(ctx, "job left to another worker", "why", why.Error())
	}
	return false
}

// finish ends the job in its state and writes the pending events, without one that repeats
// the last.
func (r *run) finish(ctx context.Context, last nexus.Event) error {
	told := slices.DeleteFunc(slices.Clone(r.pending), func(e nexus.Event) bool {
		return e.Step == last.Step && e.StepState == last.StepState
	})
	err := r.write(ctx, "end not written", func() error { return r.lease.Finish(ctx, &r.job, r.moved, append(told, last)...) })
	if err == nil {
		r.ended(ctx)
	}
	return err
}

func (r *run) ended(ctx context.Context) {
	r.e.Metrics.ended(r.job, r.lease.Time())
	level, attrs := slog.LevelInfo, []any{"state", string(r.job.State), nexus.LogDur, r.e.Now().Sub(r.job.CreatedAt).Milliseconds()}
	if r.job.Error != nil {
		attrs = append(attrs, nexus.LogCode, string(r.job.Error.Code), nexus.LogStep, string(r.job.Error.Step))
	}
	if r.job.State == nexus.RollbackFailed {
		level = slog.LevelError
	}
	r.e.Log.Log(ctx, level, "job ended", attrs...)
}

// rest makes the job wait; it gives up lease and slot.
func (r *run) rest(ctx context.Context, v Verdict, step nexus.StepName, note string) bool {
	r.job.WaitingFor, r.job.WaitNote = v.For, note
	told := append(slices.Clone(r.pending), nexus.Event{Step: step, StepState: r.job.Step(step).State, Note: note})
	err := r.write(ctx, "wait not written", func() error { return r.lease.Wait(ctx, &r.job, v.After, told...) })
	switch {
	case errors.Is(err, nexus.ErrFenced):
		return r.leave(ctx, nexus.ErrFenced)
	case err != nil: // the lease expires, and the step is tried again
		r.e.Log.WarnContext(ctx, "wait not written", nexus.LogErr, err)
	}
	return false
}
