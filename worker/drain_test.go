package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// late are results of a step that ends after the drain of its worker.
var late = []struct {
	name   string
	answer func() error
}{
	{"success", func() error { return nil }},
	{"the bench is gone", func() error {
		return &nexus.Error{Code: nexus.Unavailable, Op: "test", Wait: nexus.WaitBench, Msg: "The connection to the bench was lost."}
	}},
	{"a refusal", func() error { return &nexus.Error{Code: nexus.Invalid, Op: "test", Msg: "No."} }},
	{"canceled", func() error {
		return &nexus.Error{Code: nexus.CodeCanceled, Op: "test", Msg: "Canceled.", Err: nexus.ErrDraining}
	}},
	{"a low token", func() error { return &nexus.Error{Code: nexus.Fenced, Op: "test", Msg: "Too low.", Seen: 5} }},
	{"unforeseen", func() error { return errors.New("unforeseen") }},
	{"a panic", func() error { panic("in a step") }},
}

// leaver is an engine that drains while its only job hangs in a step.
type leaver struct {
	*harness
	engine  *worker.Engine
	process tasks.Process
	job     nexus.Job
	release chan func() error // returns the step's result
	cause   error             // the cause with which the step's context ended
	done    sync.WaitGroup    // the run
}

// depart lets an engine take a job whose step, or its undo, ignores its context. The engine
// then drains and reaches the limit; it has stopped when depart returns.
func depart(t *testing.T, h *harness, undo bool) *leaver {
	t.Helper()
	begun := make(chan struct{}, 1)
	l := &leaver{harness: h, release: make(chan func() error)}
	hangs := func(ctx context.Context, _ *tasks.Kit) error {
		begun <- struct{}{}
		answer := <-l.release
		l.cause = context.Cause(ctx)
		return answer()
	}
	step := tasks.Step{Name: "one", Timeout: time.Hour, Attempts: 1, Do: hangs}
	if undo {
		step.Undo = hangs
		step.Do = func(context.Context, *tasks.Kit) error {
			return &nexus.Error{Code: nexus.Invalid, Op: "test", Msg: "No."}
		}
	}
	l.process = tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{step}}
	l.engine = worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{l.process},
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return h.now }, Renew: 5 * time.Millisecond})
	l.job = h.submit(t, l.process)
	l.done.Go(func() {
		if l.engine.Work(t.Context(), store.Task{V: 1, Job: l.job.ID, Dispatch: 1}) {
			t.Error("the job is said to be over")
		}
	})
	<-begun
	leaving, stop := context.WithCancel(t.Context())
	stop()
	if err := worker.Serve(leaving, asynq.RedisClientOpt{Addr: h.redis.Addr()}, l.engine, 1, time.Millisecond); err != nil {
		t.Error(err)
	}
	return l
}

// TestDrainLimit: a run that is abandoned at the drain's limit no longer owns its job. The
// result of its step is not recorded as a failure, and another worker continues the job.
func TestDrainLimit(t *testing.T) {
	t.Parallel()
	for _, undo := range []bool{false, true} {
		for _, tc := range late {
			t.Run(map[bool]string{false: "in a step, ", true: "in an undo, "}[undo]+tc.name, func(t *testing.T) {
				t.Parallel()
				h := newHarness(t)
				defer h.close()
				l := depart(t, h, undo)
				left, err := h.store.Job(t.Context(), l.job.ID)
				want := nexus.Running
				if undo {
					want = nexus.RollingBack
				}
				if err != nil || !left.LeaseUntil.IsZero() || left.State != want || left.Steps[0].Undos != 0 || !undo && left.Steps[0].Attempts != 0 {
					t.Errorf("left as %+v, %v", left, err)
				}
				l.release <- tc.answer
				l.done.Wait()
				if !errors.Is(l.cause, nexus.ErrDraining) {
					t.Errorf("the step was told %v", l.cause)
				}
				after, err := h.store.Job(t.Context(), l.job.ID)
				if err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(left, after); diff != "" {
					t.Errorf("what the step answered later was written:\n%s", diff)
				}
				l.succeed(t, undo)
			})
		}
	}
}

// succeed lets another worker finish the job.
func (l *leaver) succeed(t *testing.T, undo bool) {
	t.Helper()
	p, want := l.process, nexus.Succeeded
	fine := func(context.Context, *tasks.Kit) error { return nil }
	if p.Steps = []tasks.Step{p.Steps[0]}; undo {
		p.Steps[0].Undo, want = fine, nexus.Failed
	} else {
		p.Steps[0].Do = fine
	}
	end := l.live(t, p, l.job.ID, func(int) {})
	if end.State != want || end.Rescues != 0 || end.Steps[0].Attempts != 1 {
		t.Errorf("the successor ends it as %+v", end)
	}
}

// TestGivenUpLeaseStaysGivenUp: a renewal that arrives after the lease was given up does not
// restore it.
func TestGivenUpLeaseStaysGivenUp(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	job := h.submit(t, tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one"}}})
	lease, job, _, err := h.store.Take(t.Context(), job.ID, job.Dispatch, nil)
	if err == nil {
		err = lease.GiveUp(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lease.Renew(t.Context()); !errors.Is(err, nexus.ErrFenced) {
		t.Errorf("renewed: %v", err)
	}
	if again := lease.GiveUp(t.Context()); !errors.Is(again, nexus.ErrFenced) {
		t.Errorf("given up twice: %v", again)
	}
	if left, err := h.store.Job(t.Context(), job.ID); err != nil || !left.LeaseUntil.IsZero() || left.State != nexus.Running {
		t.Errorf("left as %+v, %v", left, err)
	}
	if _, err := h.store.Tick(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if next, err := h.store.Job(t.Context(), job.ID); err != nil || next.Dispatch != 2 {
		t.Errorf("not handed on at once: %+v, %v", next, err)
	}
}
