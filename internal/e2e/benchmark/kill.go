package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// shared is how many jobs two workers have when one of them is killed. The jobs start one
// after the other, so that their leases expire at different times.
const shared = 10

// killed kills one of two busy workers in each run, and times how long its jobs stand still:
// from the kill to the next journaled start of a step.
func killed(ctx context.Context, s *stack) ([]row, error) {
	// Replace the worker, since its log is long by now and is read many times here.
	if err := s.worker.end(10 * time.Second); err != nil {
		return nil, err
	}
	survivor, err := s.startWorker(ctx, "survivor")
	if err != nil {
		return nil, err
	}
	var ours []float64
	for i := range s.runs {
		fresh, err := s.startWorker(ctx, fmt.Sprintf("fresh-%d", i))
		if err != nil {
			return nil, err
		}
		var slowest float64
		if slowest, survivor, err = s.killOne(ctx, [2]*process{survivor, fresh}); err != nil {
			return nil, err
		}
		ours = append(ours, slowest)
	}
	theirs, all := s.peers.rescued()
	return []row{row{ID: "kill_rescue", What: "kill -9 of a worker → the last of its jobs continues", Unit: unitMillis,
		Peer: peerFigures{What: "asynq: its own rescue", Unfinished: !all}, Budget: atMost(6000)}.judged(ours, theirs)}, nil
}

// killOne kills the one of two workers that has more jobs, and waits until the other has
// finished them all. Slowest is the longest standstill of a job, in ms.
func (s *stack) killOne(ctx context.Context, pair [2]*process) (slowest float64, survivor *process, err error) {
	ids, err := s.slowJobs(ctx)
	if err != nil {
		return 0, nil, err
	}
	var shares [2][]string
	err = eventually(ctx, 5*time.Second, "all jobs have an owner", func() bool {
		shares = [2][]string{pair[0].holds(ids), pair[1].holds(ids)}
		return len(shares[0])+len(shares[1]) == len(ids)
	})
	if err != nil {
		return 0, nil, err
	}
	victim := 0
	if len(shares[1]) > len(shares[0]) {
		victim = 1
	}
	at := time.Now()
	if err := pair[victim].kill(); err != nil {
		return 0, nil, err
	}
	if err := pause(ctx, 100*time.Millisecond); err != nil { // until the last writes of the victim have arrived
		return 0, nil, err
	}
	stood, err := s.standstill(ctx, shares[victim], at)
	if err != nil {
		return 0, nil, err
	}
	if err := s.settled(ctx); err != nil {
		return 0, nil, err
	}
	for _, id := range ids {
		if _, err := s.succeeded(ctx, id); err != nil {
			return 0, nil, err
		}
	}
	return slices.Max(stood), pair[1-victim], nil
}

// slowJobs makes signups whose sites take long.
func (s *stack) slowJobs(ctx context.Context) (ids []string, err error) {
	for range shared {
		id, err := s.signupBy(ctx, "slow-site@example.com")
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
		if err := pause(ctx, 150*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// holds returns those of the given jobs that this worker has: its log has the end of their
// first step, which takes no time.
func (p *process) holds(ids []string) (held []string) {
	lines := p.lines("step done")
	for _, id := range ids {
		if slices.ContainsFunc(lines, func(line map[string]any) bool { return line["job"] == id }) {
			held = append(held, id)
		}
	}
	return held
}

// standstill returns the time in ms from the kill to the next change of each job, which is
// the start of a step at the other worker.
func (s *stack) standstill(ctx context.Context, ids []string, since time.Time) ([]float64, error) {
	stood := make([]float64, len(ids))
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
			stood[i] = millis(job.UpdatedAt.Sub(since))
			return err
		})
	}
	return stood, group.Wait()
}
