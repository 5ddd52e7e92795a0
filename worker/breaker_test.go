package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/tasks"
)

// TestLastStepReachesTheBreaker: the success of a job's last step, which is written with the
// end of the job, resets the breaker like that of other steps.
func TestLastStepReachesTheBreaker(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	if err := h.store.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	fail := false
	p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{
		{Name: "reserve", Timeout: time.Minute, Attempts: 1, Do: func(ctx context.Context, k *tasks.Kit) error { return k.Records.Reserve(ctx, "main", "nxa") }},
		{Name: "activate", Timeout: time.Minute, Attempts: 1, Do: func(context.Context, *tasks.Kit) error {
			if fail {
				return plain()
			}
			return nil
		}}}}
	down := tasks.Process{Kind: nexus.KindTeardown, Steps: []tasks.Step{{Name: "drop", Timeout: time.Minute, Attempts: 1,
		Do: func(context.Context, *tasks.Kit) error { return nil }}}}
	for i := range 15 { // five failures, with two successes between two failures
		fail = i%3 == 0
		end := h.live(t, p, h.submit(t, p).ID, func(int) {})
		if want := map[bool]nexus.State{true: nexus.Failed, false: nexus.Succeeded}[fail]; end.State != want {
			t.Fatalf("job %d: %s, want %s", i, end.State, want)
		}
		if !fail { // the name is free again
			h.live(t, down, h.submit(t, down).ID, func(int) {})
		}
	}
	benches, err := h.store.Benches(t.Context())
	if err != nil || len(benches) != 1 || benches[0].Mode != nexus.BenchOpen || benches[0].Failures != 0 {
		t.Errorf("%+v, %v", benches, err)
	}
}

// TestInputIsNotTheBenchesFault: errors caused by a signup's data never trip the breaker,
// however often they occur.
func TestInputIsNotTheBenchesFault(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	if err := h.store.AnnounceBench(t.Context(), "main"); err != nil {
		t.Fatal(err)
	}
	code := nexus.Invalid
	p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{
		{Name: "reserve", Timeout: time.Minute, Attempts: 1, Do: func(ctx context.Context, k *tasks.Kit) error { return k.Records.Reserve(ctx, "main", "nxa") }},
		{Name: "user", Timeout: time.Minute, Attempts: 5, Do: func(context.Context, *tasks.Kit) error { return &nexus.Error{Code: code, Op: "bench.user"} }}}}
	for _, code = range []nexus.Code{nexus.Invalid, nexus.NotFound, nexus.Conflict, nexus.Forbidden} {
		for range 6 {
			if end := h.live(t, p, h.submit(t, p).ID, func(int) {}); end.State != nexus.Failed || end.Error.Code != code {
				t.Fatalf("%s: %s, %+v", code, end.State, end.Error)
			}
		}
		benches, err := h.store.Benches(t.Context())
		if err != nil || len(benches) != 1 || benches[0].Mode != nexus.BenchOpen || benches[0].Failures != 0 {
			t.Fatalf("after %s: %+v, %v", code, benches, err)
		}
	}
}
