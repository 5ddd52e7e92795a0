package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hibiken/asynq"
)

// samples is how many signups, and how many tasks of asynq, are timed in a run, one at a
// time.
const samples = 100

// firstSteps measures the time from the POST to the journaled start of the first step, and
// alternately that of asynq from enqueue to handler.
func firstSteps(ctx context.Context, s *stack) ([]row, error) {
	begun := make(chan time.Time, 1)
	server, err := startAsynq(s.redisAddr, "default", concurrency, func(context.Context, *asynq.Task) error {
		begun <- time.Now()
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer server.Shutdown()
	tasks := asynq.NewClientFromRedisClient(s.peers.rdb)
	if _, _, err := s.timed(ctx, 5, tasks, begun); err != nil { // opens the connections
		return nil, err
	}
	var ours, theirs [2][]float64 // p50 and p99 of each run
	for range s.runs {
		us, them, err := s.timed(ctx, samples, tasks, begun)
		if err != nil {
			return nil, err
		}
		for i, q := range []float64{0.5, 0.99} {
			ours[i], theirs[i] = append(ours[i], quantile(us, q)), append(theirs[i], quantile(them, q))
		}
	}
	peer := peerFigures{What: "asynq: enqueue → handler"}
	return []row{
		row{ID: "first_step_p50", What: "POST /signup → first step starts, p50", Unit: unitMillis, Peer: peer, Budget: atMost(20)}.judged(ours[0], theirs[0]),
		row{ID: "first_step_p99", What: "POST /signup → first step starts, p99", Unit: unitMillis, Peer: peer, Budget: atMost(60)}.judged(ours[1], theirs[1]),
	}, nil
}

// timed makes n signups and n tasks alternately, and returns the times of both in ms.
func (s *stack) timed(ctx context.Context, n int, tasks *asynq.Client, begun <-chan time.Time) (ours, theirs []float64, err error) {
	posted := make(map[string]time.Time, n)
	for range n {
		at := time.Now()
		id, err := s.signup(ctx)
		if err != nil {
			return nil, nil, err
		}
		posted[id] = at
		if err := randomPause(ctx); err != nil {
			return nil, nil, err
		}
		took, err := enqueueOne(ctx, tasks, begun)
		if err != nil {
			return nil, nil, err
		}
		theirs = append(theirs, millis(took))
		if err := randomPause(ctx); err != nil {
			return nil, nil, err
		}
	}
	ours, err = s.untilFirstStep(ctx, posted)
	return ours, theirs, err
}

// randomPause lets a job end. It is random, so that the starts are not in step with polling.
func randomPause(ctx context.Context) error {
	return pause(ctx, 30*time.Millisecond+rand.N(20*time.Millisecond))
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

// untilFirstStep reads from the jobs when their first steps started, and returns the times
// in ms since the POST. All processes use the clock of this machine.
func (s *stack) untilFirstStep(ctx context.Context, posted map[string]time.Time) (out []float64, err error) {
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
		out = append(out, millis(job.Steps[0].StartedAt.Sub(at)))
	}
	return out, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
