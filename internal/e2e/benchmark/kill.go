package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// orphans is how many jobs two workers share when one of them is killed. They
// start one after the other, so that their leases end at different times.
const orphans = 10

// killed kills one of two workers at work, and times how long its jobs stand
// still: from the kill to the next journalled start of a step.
func killed(ctx context.Context, s *stack) ([]row, error) {
	if err := s.worker.end(10 * time.Second); err != nil {
		return nil, err
	}
	var pair [2]*process
	for i := range pair {
		var err error
		if pair[i], err = s.startWorker(ctx, fmt.Sprintf("slow-%d", i), "NEXUS_SANDBOX_DELAY=3s"); err != nil {
			return nil, err
		}
	}
	victim, mine, err := s.share(ctx, pair)
	if err != nil {
		return nil, err
	}
	at := time.Now()
	if err := victim.kill(); err != nil {
		return nil, err
	}
	if err := pause(ctx, 100*time.Millisecond); err != nil { // what it sent last has arrived
		return nil, err
	}
	stood, err := s.standstill(ctx, mine, at)
	if err != nil {
		return nil, err
	}
	slowest := quantile(stood, 1)
	r := atMost(fmt.Sprintf("kill -9 of a worker → the slowest of %d jobs goes on", len(stood)), slowest, 6*time.Second, 1, "")
	theirs, over := s.peers.rescued()
	r.peer, r.ratio = short(theirs)+"  asynq's own rescue", fmt.Sprintf("%.2f×", slowest.Seconds()/theirs.Seconds())
	if !over {
		r.peer, r.ratio = "> "+r.peer, "< "+r.ratio
	}
	return []row{r}, nil
}

// share gives both workers jobs, and picks the one with more of them.
func (s *stack) share(ctx context.Context, pair [2]*process) (victim *process, mine []string, err error) {
	for range orphans {
		if _, err := s.signup(ctx); err != nil {
			return nil, nil, err
		}
		if err := pause(ctx, 150*time.Millisecond); err != nil {
			return nil, nil, err
		}
	}
	// The first step has no delay: who says it is done has the job.
	held := func(p *process) (ids []string) {
		for _, line := range p.lines("step done") {
			id, _ := line["job"].(string)
			ids = append(ids, id)
		}
		return ids
	}
	var shares [2][]string
	err = eventually(ctx, 5*time.Second, "all jobs have an owner", func() bool {
		shares = [2][]string{held(pair[0]), held(pair[1])}
		return len(shares[0])+len(shares[1]) >= orphans
	})
	if err != nil {
		return nil, nil, err
	}
	if len(shares[0]) >= len(shares[1]) {
		return pair[0], shares[0], nil
	}
	return pair[1], shares[1], nil
}

// standstill times every job from the kill to its next change, which is the
// start of a step in its successor's journal.
func (s *stack) standstill(ctx context.Context, ids []string, since time.Time) ([]time.Duration, error) {
	stood := make([]time.Duration, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	for i, id := range ids {
		group.Go(func() error {
			_, etag, _, err := s.client.Job(ctx, id, "", 0)
			if err != nil {
				return err
			}
			job, _, changed, err := s.client.Job(ctx, id, etag, 25*time.Second)
			if err == nil && !changed {
				err = errors.New("job " + id + " did not go on within 25 s")
			}
			stood[i] = job.UpdatedAt.Sub(since)
			return err
		})
	}
	return stood, group.Wait()
}
