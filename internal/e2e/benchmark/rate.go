package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"
)

// How much is done in one run of each; the two alternate. A run takes a second or two: a
// shorter one shows mainly what else the machine did, and in a longer one the jobs wait so
// long that workers look at them again.
const (
	jobsARun  = 500
	tasksARun = 4000
)

// wholeJobs measures provisions per second, from the first POST to the last end, and
// asynq's no-op tasks per second with the same number of clients.
func wholeJobs(ctx context.Context, s *stack) ([]row, error) {
	var left atomic.Int64
	server, err := startAsynq(s.redisAddr, "default", concurrency, func(context.Context, *asynq.Task) error {
		left.Add(-1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer server.Shutdown()
	tasks := asynq.NewClientFromRedisClient(s.peers.rdb)
	enqueue := func(ctx context.Context) error {
		_, err := tasks.EnqueueContext(ctx, asynq.NewTask(peerTask, nil))
		return err
	}
	drained := func(ctx context.Context) error {
		return eventually(ctx, time.Minute, "asynq is done", func() bool { return left.Load() == 0 })
	}
	var ids jobIDs
	signup := func(ctx context.Context) error {
		id, err := s.signup(ctx)
		ids.add(id)
		return err
	}
	var ours, theirs []float64
	for i := range s.runs + 1 {
		us, err := round(ctx, jobsARun, signup, s.settled)
		if err != nil {
			return nil, err
		}
		left.Store(tasksARun)
		them, err := round(ctx, tasksARun, enqueue, drained)
		if err != nil {
			return nil, err
		}
		if i > 0 { // the first one only warms up: scripts are loaded, connections opened
			ours, theirs = append(ours, us), append(theirs, them)
		}
	}
	for _, id := range ids.all {
		if _, err := s.succeeded(ctx, id); err != nil {
			return nil, err
		}
	}
	return []row{row{ID: "provision_rate", What: "whole provision on the sandbox", Unit: unitRate,
		Peer: peerFigures{What: "asynq: no-op tasks"}, Budget: ofPeer(1.0 / 6)}.judged(ours, theirs)}, nil
}

type jobIDs struct {
	mu  sync.Mutex
	all []string
}

func (j *jobIDs) add(id string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.all = append(j.all, id)
}

// round makes n calls from `concurrency` clients, waits until all is done, and returns the
// rate per second.
func round(ctx context.Context, n int, ask, settled func(context.Context) error) (float64, error) {
	started := time.Now()
	group, asking := errgroup.WithContext(ctx)
	for c := range concurrency {
		group.Go(func() error {
			for range (n + concurrency - 1 - c) / concurrency { // n in all
				if err := ask(asking); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	if err := settled(ctx); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(started).Seconds(), nil
}
