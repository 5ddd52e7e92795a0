package worker_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// TestAnotherBenchsJobIsLeft: a worker takes no job of a tenant on another bench, since on its
// own bench a removal would find nothing and succeed. After a while the job shows the reason.
func TestAnotherBenchsJobIsLeft(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	reserve := func(ctx context.Context, k *tasks.Kit) error { return k.Records.Reserve(ctx, "north", "nx1") }
	made := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1, Do: reserve}}}
	if end := h.live(t, made, h.submit(t, made).ID, func(int) {}); end.State != nexus.Succeeded {
		t.Fatalf("no tenant: %s", end.State)
	}
	dropped := 0
	down := tasks.Process{Kind: nexus.KindTeardown, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1,
		Do: func(context.Context, *tasks.Kit) error { dropped++; return nil }}}}
	job := h.submit(t, down)
	on := func(bench string) bool {
		now := h.now
		return worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{down}, Settings: tasks.Settings{Bench: bench},
			Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }, Renew: time.Hour, Linger: time.Millisecond,
		}).Work(t.Context(), store.Task{Job: job.ID, Dispatch: job.Dispatch})
	}
	if on("south") || dropped > 0 {
		t.Fatal("a worker of another bench took it")
	}
	if is, err := h.store.Job(t.Context(), job.ID); err != nil || is.WaitNote != "" {
		t.Errorf("it says %q in passing, %v", is.WaitNote, err)
	}
	h.advance(20 * time.Second)
	on("south")
	if is, err := h.store.Job(t.Context(), job.ID); err != nil || is.State != nexus.Queued || !strings.Contains(is.WaitNote, "bench north") {
		t.Errorf("it is %s and says %q, %v", is.State, is.WaitNote, err)
	}
	if !on("north") || dropped != 1 {
		t.Errorf("its own bench's worker did it %d times", dropped)
	}
}
