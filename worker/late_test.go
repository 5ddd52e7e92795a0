package worker_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// TestProvenSiteIsKept: after the verification of a site, a step that fails with internal
// errors is tried again without limit. Before it, three internal errors roll the job back.
func TestProvenSiteIsKept(t *testing.T) {
	t.Parallel()
	for _, proven := range []bool{false, true} {
		h := newHarness(t)
		defer h.close()
		failures, undone := 9, 0
		p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{
			{Name: "site", Timeout: time.Minute, Attempts: 3, Do: func(context.Context, *tasks.Kit) error { return nil },
				Undo: func(context.Context, *tasks.Kit) error { undone++; return nil }},
			{Name: "activate", Timeout: time.Minute, Attempts: tasks.Forever, Proven: proven, Do: func(context.Context, *tasks.Kit) error {
				if failures--; failures >= 0 {
					panic("nobody foresaw it")
				}
				return nil
			}}}}
		end := h.live(t, p, h.submit(t, p).ID, func(int) {})
		if want := map[bool]nexus.State{false: nexus.Failed, true: nexus.Succeeded}[proven]; end.State != want || undone > 0 == proven {
			t.Errorf("proven %t: %s after %d undos; want %s", proven, end.State, undone, want)
		}
	}
}

// TestRowsThatAreProven: the steps after verify are proven, the others are not.
func TestRowsThatAreProven(t *testing.T) {
	t.Parallel()
	for _, p := range tasks.Processes() {
		verified := false
		for _, step := range p.Steps {
			if step.Proven != verified {
				t.Errorf("%s %s: proven %t, verified before %t", p.Kind, step.Name, step.Proven, verified)
			}
			verified = verified || step.Name == "verify"
		}
	}
}

// TestDrainWaitsForRunsThatAsynqForgot: asynq's shutdown does not wait for a task whose asynq
// lease has expired; the drain waits for its run, up to the limit.
func TestDrainWaitsForRunsThatAsynqForgot(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	begun := make(chan struct{})
	var e *worker.Engine
	p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1, Do: func(ctx context.Context, _ *tasks.Kit) error {
		close(begun)
		<-e.Draining()
		work := time.NewTimer(200 * time.Millisecond)
		defer work.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-work.C:
			return nil
		}
	}}, {Name: "two", Timeout: time.Minute, Attempts: 1, Do: func(context.Context, *tasks.Kit) error { return nil }}}}
	e = worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p}, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return h.now }, Renew: time.Hour})
	job := h.submit(t, p)
	var run sync.WaitGroup
	run.Go(func() { e.Work(t.Context(), store.Task{V: 1, Job: job.ID, Dispatch: 1}) })
	<-begun
	leaving, stop := context.WithCancel(t.Context())
	stop()
	if err := worker.Serve(leaving, asynq.RedisClientOpt{Addr: h.redis.Addr()}, e, 1, 10*time.Second); err != nil {
		t.Error(err)
	}
	left, err := h.store.Job(t.Context(), job.ID)
	if err != nil || left.Steps[0].State != nexus.StepDone || left.Steps[1].State != nexus.StepPending || !left.LeaseUntil.IsZero() {
		t.Errorf("left as %+v, %v", left, err)
	}
	run.Wait()
}
