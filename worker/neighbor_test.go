package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

// shiftedTime makes one client see Redis' clock an hour ahead.
type shiftedTime struct{}

// DialHook changes nothing.
func (shiftedTime) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook changes nothing.
func (shiftedTime) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook shifts the answer of TIME.
func (shiftedTime) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if at, ok := cmd.(*redis.TimeCmd); ok && err == nil {
			at.SetVal(at.Val().Add(time.Hour))
		}
		return err
	}
}

// useless are workers that cannot do any job.
var useless = []struct {
	name   string
	engine func(*testing.T, *harness, tasks.Process) *worker.Engine
}{
	{"lacks the key", func(t *testing.T, h *harness, p tasks.Process) *worker.Engine {
		other, err := nexus.ParseKeyring("k9:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
		if err != nil {
			t.Fatal(err)
		}
		return worker.NewEngine(worker.Options{Store: h.store, Keys: other, Processes: []tasks.Process{p}, Log: slog.New(slog.DiscardHandler)})
	}},
	{"has a wrong clock", func(t *testing.T, h *harness, p tasks.Process) *worker.Engine {
		rdb := redis.NewClient(&redis.Options{Addr: h.redis.Addr()})
		t.Cleanup(func() { _ = rdb.Close() })
		rdb.AddHook(shiftedTime{})
		return worker.NewEngine(worker.Options{Store: store.New(rdb, store.Options{Slots: 2}), Keys: h.keys,
			Processes: []tasks.Process{p}, Log: slog.New(slog.DiscardHandler)})
	}},
}

// TestUselessWorkerDoesNoHarm: one worker can do the jobs, and another cannot. The other must
// not take most of the tasks, of which the due index would have to dispatch each again.
func TestUselessWorkerDoesNoHarm(t *testing.T) {
	t.Parallel()
	const jobs, patience = 60, 3 * time.Minute
	for _, tc := range useless {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			h.redis.SetTime(time.Time{}) // back to real time
			var done, again atomic.Int64 // again: dispatches after the first
			all := make(chan struct{})
			p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1,
				Do: func(_ context.Context, k *tasks.Kit) error {
					again.Add(k.Job.Dispatch - 1)
					if done.Add(1) == jobs {
						close(all)
					}
					return nil
				}}}}
			good := worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p}, Log: slog.New(slog.DiscardHandler)})
			serving, stop := context.WithCancel(t.Context())
			var workers sync.WaitGroup
			defer workers.Wait()
			defer stop()
			for _, e := range []*worker.Engine{tc.engine(t, h, p), good} {
				workers.Go(func() {
					if err := worker.Serve(serving, asynq.RedisClientOpt{Addr: h.redis.Addr()}, e, 4, time.Second); err != nil {
						t.Error(err)
					}
				})
			}
			for i := range jobs {
				if _, _, err := h.store.Submit(t.Context(), store.Submission{ID: nexus.NewJobID(), Kind: p.Kind, Steps: []nexus.StepName{"one"},
					Site: nexus.SiteName(fmt.Sprintf("s%d.localhost", i)), GiveUpAfter: time.Hour, KeyID: h.keys.ID()}); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case <-all:
				if n := again.Load(); n >= jobs/2 {
					t.Errorf("%d tasks of %d jobs were taken in vain", n, jobs)
				}
			case <-time.After(patience):
				t.Errorf("%d of %d jobs are done in %s", done.Load(), jobs, patience)
			}
		})
	}
}
