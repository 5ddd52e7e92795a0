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

// hung is a bench that does not answer until it is released.
type hung struct {
	asked chan struct{} // gets a value for each call
	let   chan struct{}
}

// Run waits and ignores its context.
func (h hung) Run(context.Context, nexus.Op) (nexus.Result, error) {
	h.asked <- struct{}{}
	<-h.let
	return nexus.Result{}, &nexus.Error{Code: nexus.Unavailable, Op: "test", Msg: "Away."}
}

// Close does nothing.
func (hung) Close() error { return nil }

// TestPurgesHoldUpNobody: while the bench hangs in the calls of purges, jobs are dispatched as
// usual.
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

// done records a job and lets it succeed.
func (h *harness) done(t *testing.T, sub store.Submission) {
	t.Helper()
	job, _, err := h.store.Submit(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	lease, job, taken, err := h.store.Take(t.Context(), job.ID, job.Dispatch, nil)
	if err != nil || taken != store.TakeOK {
		t.Fatalf("%s, %v", taken, err)
	}
	job.State = nexus.Succeeded
	if err := lease.Finish(t.Context(), &job, "", nexus.Event{}); err != nil {
		t.Fatal(err)
	}
}

// closedBench returns the same result for every site.
type closedBench struct{ site *nexus.SiteInfo }

// Run answers an inspect.
func (b closedBench) Run(context.Context, nexus.Op) (nexus.Result, error) {
	return nexus.Result{Site: b.site}, nil
}

// TestPurgeAsksTheBench: a purge is recorded only if the site is closed on the bench and the
// bench's mark is not newer than the registry's row; otherwise the grace starts again.
func TestPurgeAsksTheBench(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		state  string
		later  nexus.Gen // how far the bench's mark is after the registry's
		purged bool
	}{
		{"closed as the registry knows", "suspended", 0, true},
		{"open", "active", 0, false},
		{"open since", "active", 1, false},
		{"closed anew since", "suspended", 1, false},
		{"its removal had begun", "deleting", 0, true},
		{"gone", "", 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			made := store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindProvision, Site: "old.localhost", Steps: []nexus.StepName{"one"}, GiveUpAfter: time.Hour}
			h.done(t, made)
			h.done(t, store.Submission{ID: nexus.NewJobID(), Kind: nexus.KindSuspend, Site: "old.localhost", Steps: []nexus.StepName{"one"}, GiveUpAfter: time.Hour, PurgeAfter: time.Minute})
			before, err := h.store.Tenant(t.Context(), "old.localhost")
			if err != nil || before.StateGen == 0 {
				t.Fatalf("%+v, %v", before, err)
			}
			b := closedBench{&nexus.SiteInfo{Site: "old.localhost", Job: made.ID, State: tc.state, StateGen: before.StateGen + tc.later}}
			e := worker.NewEngine(worker.Options{Store: h.store, Bench: b, Keys: h.keys, Log: slog.New(slog.DiscardHandler), Grace: time.Hour})
			h.advance(2 * time.Minute)
			e.Purge(t.Context(), store.Purge{Site: "old.localhost", At: fmt.Sprint(before.PurgeAt.UnixMilli())})
			row, err := h.store.Tenant(t.Context(), "old.localhost")
			if err != nil || (row.State == nexus.TenantDeleting) != tc.purged {
				t.Fatalf("%+v, %v", row, err)
			}
			if left := row.PurgeAt.Sub(h.now); !tc.purged && (left < 59*time.Minute || left > time.Hour) {
				t.Errorf("to be purged in %s", left)
			}
			if found, err := h.store.Tick(t.Context(), true); err != nil || !tc.purged && len(found.Purges) > 0 {
				t.Errorf("found due again at once: %+v, %v", found, err)
			}
		})
	}
}
