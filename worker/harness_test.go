package worker_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type harness struct {
	redis *miniredis.Miniredis
	rdb   *redis.Client
	store *store.Store
	now   time.Time
	keys  *nexus.Keyring
}

func newHarness(tb interface{ Fatal(...any) }) *harness {
	m, err := miniredis.Run()
	if err != nil {
		tb.Fatal(err)
	}
	keys, _ := nexus.NewKeyring()
	h := &harness{redis: m, now: time.Unix(1_790_000_000, 0), keys: keys}
	m.SetTime(h.now)
	h.rdb = redis.NewClient(&redis.Options{Addr: m.Addr()})
	h.store = store.New(h.rdb, store.Options{Slots: 2})
	return h
}

func (h *harness) close() {
	_ = h.rdb.Close()
	h.redis.Close()
}

func (h *harness) advance(d time.Duration) {
	h.now = h.now.Add(d)
	h.redis.SetTime(h.now)
}

func (h *harness) engine(p tasks.Process) *worker.Engine {
	now := h.now
	return worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p},
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
		Jitter: func() float64 { return 0.5 }, Renew: time.Hour})
}

func (h *harness) submit(tb interface{ Fatal(...any) }, p tasks.Process) nexus.Job {
	names := make([]nexus.StepName, len(p.Steps))
	for i, step := range p.Steps {
		names[i] = step.Name
	}
	job, _, err := h.store.Submit(context.Background(), store.Submission{ID: nexus.NewJobID(), Kind: p.Kind,
		Site: "acme.localhost", Steps: names, GiveUpAfter: 24 * time.Hour, KeyID: h.keys.ID()})
	if err != nil {
		tb.Fatal(err)
	}
	return job
}

// live drives a job as workers do: it ticks and works on each dispatch. Each call of Work has
// its own goroutine, so that a kill can end it at any point.
func (h *harness) live(tb interface{ Fatal(...any) }, p tasks.Process, id nexus.JobID, each func(round int)) nexus.Job {
	ctx := context.Background()
	for round := range 2000 {
		job, err := h.store.Job(ctx, id)
		if err != nil {
			tb.Fatal(err)
		}
		if job.State.Terminal() || job.State == nexus.RollbackFailed {
			return job
		}
		if job.Taken < job.Dispatch {
			done := make(chan struct{})
			go func() {
				defer close(done)
				h.engine(p).Work(ctx, store.Task{V: 1, Job: id, Dispatch: job.Dispatch})
			}()
			<-done
		}
		each(round)
		h.advance(3 * time.Second)
		if _, err := h.store.Tick(ctx, true); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Fatal("the job never ended")
	return nexus.Job{}
}
