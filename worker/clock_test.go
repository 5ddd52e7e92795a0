package worker_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
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

// told is a log that signals a line with a given text.
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

// TestSkewedWorkerTakesNoJob: a worker whose clock is an hour off Redis' clock logs it and
// takes no job.
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

// unheard is a hook that makes TIME fail until told is set.
type unheard struct {
	shiftedTime
	asked atomic.Int64
	told  atomic.Bool
}

// ProcessHook replaces the answer of TIME by an error.
func (u *unheard) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "time" && !u.told.Load() {
			u.asked.Add(1)
			return context.DeadlineExceeded
		}
		return next(ctx, cmd)
	}
}

// TestClockTurns: a worker cannot compare its clock at first; then its clock is right, then
// wrong, then right again. Only while the clock is right it takes tasks from asynq's queue.
// Otherwise the tasks stay there for other workers.
func TestClockTurns(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	done := make(chan nexus.SiteName, 2)
	p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1,
		Do: func(_ context.Context, kit *tasks.Kit) error { done <- kit.Job.Site; return nil }}}}
	var later atomic.Int64 // makes the next comparison of the clock due at once
	turn := func(redis time.Time) {
		h.redis.SetTime(redis)
		later.Add(int64(time.Minute))
	}
	asks := func(site nexus.SiteName) (task string) {
		t.Helper()
		job, _, err := h.store.Submit(t.Context(), store.Submission{ID: nexus.NewJobID(), Kind: p.Kind, Steps: []nexus.StepName{"one"}, Site: site,
			GiveUpAfter: 24 * time.Hour, KeyID: h.keys.ID()})
		if err != nil {
			t.Fatal(err)
		}
		return string(job.ID) + ".1"
	}
	turn(time.Time{}) // right: Redis' own clock is this machine's
	rdb, first := redis.NewClient(&redis.Options{Addr: h.redis.Addr()}), &unheard{}
	defer func() { _ = rdb.Close() }()
	rdb.AddHook(first)
	e := worker.NewEngine(worker.Options{Store: store.New(rdb, store.Options{Slots: 2}), Keys: h.keys, Processes: []tasks.Process{p}, Log: slog.New(slog.DiscardHandler),
		Linger: time.Millisecond, Now: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }})
	serving, stop := context.WithCancel(t.Context())
	var serve sync.WaitGroup
	defer serve.Wait()
	defer stop()
	serve.Go(func() {
		if err := worker.Serve(serving, asynq.RedisClientOpt{Addr: h.redis.Addr()}, e, 1, time.Second); err != nil {
			t.Error(err)
		}
	})
	servers := func(n int64) func() bool {
		return func() bool { return h.rdb.ZCard(t.Context(), "asynq:servers").Val() == n }
	}
	until(t, "it asks for the time again and again", func() bool { return first.asked.Load() > 2 })
	if !servers(0)() {
		t.Error("it serves asynq before it knows its clock")
	}
	first.told.Store(true)
	asks("before.localhost")
	if site := <-done; site != "before.localhost" {
		t.Errorf("%s was done first", site)
	}
	until(t, "asynq knows its two servers", servers(2))
	turn(time.Now().Add(time.Hour))
	until(t, "asynq knows it no more", servers(0))
	task := asks("meanwhile.localhost")
	later.Add(int64(time.Minute)) // compared again, and still wrong
	if waiting := h.rdb.LRange(t.Context(), "asynq:{provision}:pending", 0, -1).Val(); !slices.Equal(waiting, []string{task}) {
		t.Errorf("in the queue are %v, want %s", waiting, task)
	}
	turn(time.Time{})
	if site := <-done; site != "meanwhile.localhost" {
		t.Errorf("%s was done next", site)
	}
}

// until waits until a condition is true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("it does not come true: %s", what)
		case <-tick.C:
		}
	}
}
