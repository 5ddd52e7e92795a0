package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hibiken/asynq"
)

// samples is how many signups, and tasks of asynq, are timed one by one.
const samples = 200

// firstSteps times the way from the POST to the first step, as journalled, and
// asynq's own from enqueue to handler, in turns.
func firstSteps(ctx context.Context, s *stack) ([]row, error) {
	begun := make(chan time.Time, 1)
	server, err := startAsynq(s.redisAddr, "default", func(context.Context, *asynq.Task) error {
		begun <- time.Now()
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer server.Shutdown()
	tasks := asynq.NewClientFromRedisClient(s.peers.rdb)
	posted := make(map[string]time.Time, samples)
	var theirs []time.Duration
	for i := range samples + 5 {
		at := time.Now()
		id, err := s.signup(ctx)
		if err != nil {
			return nil, err
		}
		if err := randomPause(ctx); err != nil {
			return nil, err
		}
		took, err := enqueueOne(ctx, tasks, begun)
		if err != nil {
			return nil, err
		}
		if i >= 5 { // the first warm connections up
			posted[id] = at
			theirs = append(theirs, took)
		}
		if err := randomPause(ctx); err != nil {
			return nil, err
		}
	}
	ours, err := s.untilFirstStep(ctx, posted)
	if err != nil {
		return nil, err
	}
	const peer = "asynq, enqueue → handler"
	return []row{
		atMost("POST /signup → first step starts, p50", median(ours), 20*time.Millisecond, median(theirs), peer),
		atMost("POST /signup → first step starts, p99", quantile(ours, 0.99), 60*time.Millisecond, quantile(theirs, 0.99), peer),
	}, nil
}

// randomPause lets a job end, and keeps out of step with whoever polls.
func randomPause(ctx context.Context) error {
	return pause(ctx, 40*time.Millisecond+rand.N(20*time.Millisecond))
}

func enqueueOne(ctx context.Context, tasks *asynq.Client, begun <-chan time.Time) (time.Duration, error) {
	at := time.Now()
	if _, err := tasks.EnqueueContext(ctx, asynq.NewTask(peerTask, nil)); err != nil {
		return 0, err
	}
	select {
	case then := <-begun:
		return then.Sub(at), nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// untilFirstStep reads from the jobs when their first steps started; all
// processes share this machine's clock.
func (s *stack) untilFirstStep(ctx context.Context, posted map[string]time.Time) (out []time.Duration, err error) {
	if err := s.settled(ctx); err != nil {
		return nil, err
	}
	for id, at := range posted {
		job, err := s.succeeded(ctx, id)
		if err != nil {
			return nil, err
		}
		if len(job.Steps) == 0 || job.Steps[0].StartedAt == nil {
			return nil, fmt.Errorf("job %s does not say when it started", id)
		}
		out = append(out, job.Steps[0].StartedAt.Sub(at))
	}
	return out, nil
}
