package worker_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
	"github.com/nexus-erp/provisioner/tasks"
	"github.com/nexus-erp/provisioner/worker"
)

func fenced(seen nexus.Gen) error {
	return &nexus.Error{Code: nexus.Fenced, Op: "test", Msg: "A newer run works on this site.", Seen: seen}
}

// TestAbsurdTokenEndsInWords: if a bench reports a token for a site that is too far in the
// future to be genuine, the job on that site ends with a sentence for the operator, and other
// jobs are not affected.
func TestAbsurdTokenEndsInWords(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		do   error
		undo error
		want nexus.State
	}{
		{"a step", fenced(math.MaxInt64), nil, nexus.Failed},
		{"an undo", refusal(), fenced(1 << 53), nexus.RollbackFailed},
		{"both", fenced(1 << 53), fenced(math.MaxInt64), nexus.RollbackFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 3,
				Do:   func(context.Context, *tasks.Kit) error { return tc.do },
				Undo: func(context.Context, *tasks.Kit) error { return tc.undo }}}}
			end := h.live(t, p, h.submit(t, p).ID, func(int) {})
			if end.State != tc.want || end.Error == nil || tc.name != "an undo" && !strings.Contains(end.Error.Message, "an operator has to") {
				t.Errorf("%s, %+v; want %s", end.State, end.Error, tc.want)
			}
			gen, err := h.store.MintGen(t.Context(), 0)
			if err != nil || !gen.Plausible(h.now) {
				t.Errorf("the next token is %d, %v", gen, err)
			}
			next := nexus.JobID("000000000000000000000000000000c1")
			if _, _, err := h.store.Submit(t.Context(), store.Submission{ID: next, Kind: p.Kind, Site: "other.localhost",
				Steps: []nexus.StepName{"one"}, GiveUpAfter: time.Hour, KeyID: h.keys.ID()}); err != nil {
				t.Fatal(err)
			}
			p.Steps[0].Do = func(context.Context, *tasks.Kit) error { return nil }
			if end := h.live(t, p, next, func(int) {}); end.State != nexus.Succeeded {
				t.Errorf("another job: %s, %+v", end.State, end.Error)
			}
		})
	}
}

// silence makes the next calls of Redis fail.
type silence struct {
	shiftedTime
	calls int
}

// ProcessHook fails calls, as during an outage.
func (s *silence) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if s.calls > 0 {
			s.calls--
			return errAway
		}
		return next(ctx, cmd)
	}
}

// TestRaiseOutlivesAnOutage: only the answer "stale" fences a run that asks for a higher
// token. While Redis does not answer, the run asks again.
func TestRaiseOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	rdb, away := redis.NewClient(&redis.Options{Addr: h.redis.Addr(), MaxRetries: -1}), &silence{}
	defer func() { _ = rdb.Close() }()
	rdb.AddHook(away)
	tries := 0
	p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 1,
		Do: func(_ context.Context, k *tasks.Kit) error {
			if tries++; tries == 1 {
				away.calls = 2
				return fenced(k.Records.Gen() + 5)
			}
			return nil
		}}}}
	e := worker.NewEngine(worker.Options{Store: store.New(rdb, store.Options{Slots: 2}), Keys: h.keys, Processes: []tasks.Process{p},
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return h.now }, Renew: time.Hour})
	job := h.submit(t, p)
	over := e.Work(t.Context(), store.Task{V: 1, Job: job.ID, Dispatch: 1})
	if job, err := h.store.Job(t.Context(), job.ID); !over || err != nil || job.State != nexus.Succeeded || tries != 2 {
		t.Errorf("over: %t, %s after %d tries, %v", over, job.State, tries, err)
	}
}

// TestRedisTimeEndsAJob: Redis' clock decides whether a job is past its give-up time, since
// the worker's clock may have been set since the last comparison.
func TestRedisTimeEndsAJob(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		off    time.Duration // of the worker's clock from Redis' clock
		redis  time.Duration // the time that has passed on Redis' clock
		answer error
		want   nexus.State
	}{
		{"ahead", 48 * time.Hour, 0, nil, nexus.Succeeded},
		{"ahead, and the step waits", 48 * time.Hour, 0, plain(), nexus.Waiting},
		{"behind", -48 * time.Hour, 25 * time.Hour, nil, nexus.Failed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			defer h.close()
			p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 3,
				Do: func(context.Context, *tasks.Kit) error { return tc.answer }}}}
			job := h.submit(t, p)
			h.advance(tc.redis)
			e := worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p}, Log: slog.New(slog.DiscardHandler),
				Now: func() time.Time { return h.now.Add(tc.off) }, Jitter: func() float64 { return 0.5 }, Renew: time.Hour})
			e.Work(t.Context(), store.Task{V: 1, Job: job.ID, Dispatch: 1})
			end, err := h.store.Job(t.Context(), job.ID)
			if err != nil || end.State != tc.want {
				t.Errorf("%s, %+v, %v; want %s", end.State, end.Error, err, tc.want)
			}
			if rest := end.NextAt.Sub(h.now); tc.want == nexus.Waiting && rest < 500*time.Millisecond {
				t.Errorf("it rests for %s", rest)
			}
		})
	}
}

// TestForeignKeyIsJudgedByRedisTime: a worker that lacks a job's sealing key, and whose clock
// is ahead, does not roll the job back for being past its give-up time.
func TestForeignKeyIsJudgedByRedisTime(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer h.close()
	p := tasks.Process{Kind: nexus.KindProvision, Steps: []tasks.Step{{Name: "one", Timeout: time.Minute, Attempts: 3,
		Do: func(context.Context, *tasks.Kit) error { return errors.New("no key") }}}}
	job, _, err := h.store.Submit(t.Context(), store.Submission{ID: nexus.NewJobID(), Kind: p.Kind, Site: "acme.localhost",
		Steps: []nexus.StepName{"one"}, GiveUpAfter: 24 * time.Hour, KeyID: "another"})
	if err != nil {
		t.Fatal(err)
	}
	e := worker.NewEngine(worker.Options{Store: h.store, Keys: h.keys, Processes: []tasks.Process{p}, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return h.now.Add(48 * time.Hour) }, Renew: time.Hour, Linger: time.Millisecond})
	e.Work(t.Context(), store.Task{V: 1, Job: job.ID, Dispatch: 1})
	if job, err := h.store.Job(t.Context(), job.ID); err != nil || job.Taken != 0 {
		t.Errorf("taken: %+v, %v", job, err)
	}
}
