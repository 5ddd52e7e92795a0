package worker_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// told is a log that tells when a line with a text comes.
type told struct {
	mu   sync.Mutex
	text string
	came chan struct{}
	all  bytes.Buffer
}

func (w *told) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(p)
	if w.came != nil && strings.Contains(w.all.String(), w.text) {
		close(w.came)
		w.came = nil
	}
	return len(p), nil
}

// TestSkewedWorkerTakesNoJob sets a worker's clock an hour off the registry's: it
// says so, and leaves every job alone.
func TestSkewedWorkerTakesNoJob(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]time.Duration{"ahead": -time.Hour, "behind": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			h.redis.SetTime(time.Now().Add(off))
			p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Second, Attempts: 1,
				Do: func(context.Context, *tasks.Kit) error { t.Error("it works by a wrong clock"); return nil }}}}
			came := make(chan struct{})
			log := &told{text: "clock compared", came: came}
			e := worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p}, Linger: time.Millisecond,
				Log: slog.New(slog.NewJSONHandler(log, nil))})
			ctx, stop := context.WithCancel(t.Context())
			var loop sync.WaitGroup
			loop.Go(func() { _ = e.Reconcile(ctx) })
			<-came
			stop()
			loop.Wait()
			job := h.submit(t, p)
			if e.Work(t.Context(), store.Task{V: 1, Job: job.ID, Dispatch: 1}) {
				t.Error("the job is said to be over")
			}
			if job, err := h.store.Job(t.Context(), job.ID); err != nil || job.State != nexus.Queued || job.Taken != 0 {
				t.Errorf("the job was touched: %+v, %v", job, err)
			}
		})
	}
}
