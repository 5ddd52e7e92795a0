package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/worker"
)

// hung is a bench that answers nothing until it is let go.
type hung struct {
	asked chan struct{} // of each question
	let   chan struct{}
}

// Run waits, whatever its context says.
func (h hung) Run(context.Context, nexus.Op) (nexus.Result, error) {
	h.asked <- struct{}{}
	<-h.let
	return nexus.Result{}, &nexus.Error{Code: nexus.Unavailable, Op: "test", Msg: "Away."}
}

// Close does nothing.
func (hung) Close() error { return nil }

// TestPurgesHoldUpNobody: while a bench that hangs is asked about tenants whose
// grace is over, jobs are handed out as ever.
func TestPurgesHoldUpNobody(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	for i := range 3 {
		site := nexus.SiteName(fmt.Sprintf("old%d.localhost", i))
		h.done(t, store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindProvision, Site: site, Steps: []nexus.StepName{"one"}, GiveUpAfter: time.Hour})
		h.done(t, store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindSuspend, Site: site, Steps: []nexus.StepName{"one"}, GiveUpAfter: time.Hour, PurgeAfter: time.Minute})
	}
	bench := hung{asked: make(chan struct{}, 3), let: make(chan struct{})}
	e := worker.NewEngine(worker.Options{Store: h.store, Bench: bench, Keys: h.keys, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	looking.Go(func() { _ = e.Reconcile(ctx) })
	defer looking.Wait()
	defer close(bench.let)
	defer stop()
	h.advance(2 * time.Minute)
	<-bench.asked
	job, _, err := h.store.Submit(t.Context(), store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindProvision, Site: "new.localhost",
		Steps: []nexus.StepName{"one"}, GiveUpAfter: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	h.advance(2 * time.Second)
	for deadline := time.After(20 * time.Second); ; {
		if h.redis.HGet("{nexus}:job:"+string(job.ID), "looks") != "0" {
			return
		}
		select {
		case <-deadline:
			t.Fatal("nobody looked at a job while the bench hung")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// done records a job and ends it well.
func (h *harness) done(t *testing.T, sub store.Submission) {
	t.Helper()
	job, _, err := h.store.Submit(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	lease, job, taken, err := h.store.Take(t.Context(), job.ID, job.Dispatch)
	if err != nil || taken != store.TakeOK {
		t.Fatalf("%s, %v", taken, err)
	}
	job.State = nexus.Succeeded
	if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
		t.Fatal(err)
	}
}
