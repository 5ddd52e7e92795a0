package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// shared is how many jobs two workers share when one of them is killed. They
// start one after the other, so that their leases end at different times.
const shared = 10

// killed kills one of two workers at work, again and again, and times how long its
// jobs stand still: from the kill to the next journalled start of a step.
func killed(ctx context.Context, s *stack) ([]row, error) {
	// Its log is long by now, and is read over and over here.
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
	return []row{row{ID: "kill_rescue", What: "kill -9 of a worker → the slowest of its jobs goes on", Unit: unitMillis,
		Peer: peerFigures{What: "asynq: its own rescue", Unfinished: !all}, Budget: atMost(6000)}.judged(ours, theirs)}, nil
}

// killOne kills the one of two workers that has more jobs, and waits until the
// other has done them all. It answers with how long the slowest stood still, and
// with who survived.
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
	if err := pause(ctx, 100*time.Millisecond); err != nil { // what it sent last has arrived
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

// slowJobs signs up for sites that take their time.
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

// holds are those of some jobs that a worker began. Their first step takes no time:
// who says that it is done has the job.
func (p *process) holds(ids []string) (held []string) {
	lines := p.lines("step done")
	for _, id := range ids {
		if slices.ContainsFunc(lines, func(line map[string]any) bool { return line["job"] == id }) {
			held = append(held, id)
		}
	}
	return held
}

// standstill times every job from the kill to its next change, which is the
// start of a step in its successor's journal.
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
