package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
)

// Options configure an engine. Store, Bench, Keys and Log are required.
type Options struct {
	Store     *store.Store
	Bench     nexus.Bench
	Keys      *nexus.Keyring
	Settings  tasks.Settings
	Processes []tasks.Process // nil: tasks.Processes()
	Log       *slog.Logger
	Metrics   *Metrics         // nil: not registered
	Now       func() time.Time // nil: time.Now
	Jitter    func() float64   // nil: math/rand; 0 ≤ x < 1
	Renew     time.Duration    // between renewals of the lease; 0: 1.5 s
	Linger    time.Duration    // how long a task that is not for this worker is kept; 0: 5 s

	GiveUpAfter time.Duration // of the jobs that the engine submits; 0: 24 h
	Grace       time.Duration // until a purge whose date is in doubt; 0: 7 days
}

// Engine runs jobs, one call of Work each. Safe for concurrent use.
type Engine struct {
	Options
	processes map[nexus.Kind]tasks.Process
	able      store.Able
	draining  chan struct{}

	clock  atomic.Int32  // the state of this machine's clock: clockUnknown, …
	turned chan struct{} // signals that clock has changed

	repeats nexus.Repeats // limits log lines that repeat during an outage

	mu   sync.Mutex
	runs map[*run]struct{} // the active runs
	left chan struct{}     // signals that a run has ended
}

// NewEngine makes an engine.
func NewEngine(o Options) *Engine {
	if o.Processes == nil {
		o.Processes = tasks.Processes()
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Settings.Bench != "" {
		o.Metrics.serve(o.Settings.Bench)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.Renew == 0 {
		o.Renew = 1500 * time.Millisecond
	}
	if o.Linger == 0 {
		o.Linger = 5 * time.Second
	}
	if o.GiveUpAfter == 0 {
		o.GiveUpAfter = 24 * time.Hour
	}
	if o.Grace == 0 {
		o.Grace = 7 * 24 * time.Hour
	}
	e := &Engine{Options: o, processes: map[nexus.Kind]tasks.Process{}, draining: make(chan struct{}), turned: make(chan struct{}, 1),
		runs: map[*run]struct{}{}, left: make(chan struct{}, 1)}
	for _, p := range o.Processes {
		e.processes[p.Kind] = p
		for _, step := range p.Steps {
			e.able.Steps = append(e.able.Steps, string(p.Kind)+"/"+string(step.Name))
		}
	}
	e.able.Bench, e.able.Keys = o.Settings.Bench, o.Keys.IDs()
	return e
}

// Drain makes every run leave its job at the next boundary between two steps. It may be
// called once.
func (e *Engine) Drain() { close(e.draining) }

func (e *Engine) isDraining() bool {
	select {
	case <-e.draining:
		return true
	default:
		return false
	}
}

// Work continues a job from the end of its journal, as far as it goes. Over tells that
// this task need not be delivered again; false leaves the job to the due index, and is not
// an error. Work does not stop when its context ends: only the engine ends a run.
func (e *Engine) Work(ctx context.Context, task store.Task) (over bool) {
	return e.work(ctx, task, &nexus.Job{})
}

// work is Work; it sets end to the job as the run left it.
func (e *Engine) work(ctx context.Context, task store.Task, end *nexus.Job) (over bool) {
	ctx = nexus.WithLog(context.WithoutCancel(ctx), slog.String(nexus.LogJob, string(task.Job)))
	if e.isDraining() {
		return false
	}
	if e.skewed() {
		e.linger()
		return false
	}
	lease, job, taken, err := e.Store.Take(ctx, task.Job, task.Dispatch, &e.able)
	if foreign, ok := errors.AsType[*store.ForeignError](err); ok {
		e.Log.WarnContext(ctx, "job left to another worker", "why", foreign.Why)
		e.noteLeft(ctx, task, foreign)
		e.linger()
		return false
	}
	switch {
	case err != nil:
		e.Log.WarnContext(ctx, "lease not taken", nexus.LogErr, err)
		return false
	case taken != store.TakeOK:
		e.Log.DebugContext(ctx, "task left alone", "why", string(taken))
		return false
	}
	ctx = nexus.WithLog(ctx, slog.String(nexus.LogKind, string(job.Kind)),
		slog.String(nexus.LogTenant, string(job.Site)), slog.Int64(nexus.LogGen, int64(job.Gen)))
	if job.TraceParent != "" {
		ctx = nexus.WithLog(ctx, slog.String(nexus.LogRequest, job.TraceParent))
	}
	r := newRun(e, lease, job)
	e.mu.Lock()
	e.runs[r] = struct{}{}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.runs, r)
		select {
		case e.left <- struct{}{}:
		default: // a signal is pending; the waiter checks the runs anyway
		}
	}()
	over = r.work(ctx)
	*end = r.job
	return over
}

// leftAfter is how long workers may leave a job before the reason is recorded. During a
// rolling deploy the next worker that gets the task usually does it.
const leftAfter = 15 * time.Second

// noteLeft records why a job that stands still was left.
func (e *Engine) noteLeft(ctx context.Context, task store.Task, foreign *store.ForeignError) {
	if e.Now().Sub(foreign.Since) < leftAfter {
		return
	}
	text := fmt.Sprintf("No worker that runs may do it: %s. Start one that can, or give it what it lacks.", foreign.Why)
	if err := e.Store.NoteLeft(ctx, task.Job, task.Dispatch, text); err != nil {
		e.Log.WarnContext(ctx, "job not noted as left", nexus.LogErr, err)
	}
}

// linger holds a task that this worker cannot do for a while. A worker that returned such
// tasks at once would take all of them before the workers that can do them.
func (e *Engine) linger() {
	t := time.NewTimer(e.Linger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-e.draining:
	}
}

// quiet waits until no run is active, or the context ends. asynq's own shutdown does not
// wait for a task whose asynq lease has expired, as happens while Redis is away.
func (e *Engine) quiet(ctx context.Context) {
	for {
		e.mu.Lock()
		count := len(e.runs)
		e.mu.Unlock()
		if count == 0 {
			return
		}
		select {
		case <-e.left:
		case <-ctx.Done():
			return
		}
	}
}

// abandon gives up the leases of all runs that did not reach a boundary within the
// drain's limit; other workers repeat their operations.
func (e *Engine) abandon(ctx context.Context) {
	e.mu.Lock()
	left := slices.Collect(maps.Keys(e.runs))
	e.mu.Unlock() // a run that ends meanwhile does not wait for Redis
	for _, r := range left {
		r.finishWith(nexus.ErrDraining) // its result is not recorded as a failure any more
		r.leave(ctx, nexus.ErrDraining)
	}
}
