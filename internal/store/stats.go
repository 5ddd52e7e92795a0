package store

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Stats are the figures of the whole system that the metrics and alarms use.
type Stats struct {
	Due     int           // entries of the due index that are due and not handled yet
	DueAge  time.Duration // of the oldest of them; zero: none
	Parked  int           // jobs whose rollback failed, which nobody has resumed
	Queues  []QueueStats
	Benches []nexus.BenchStatus
	Workers int // that announced themselves lately
	APIs    int
}

// QueueStats are the figures of one asynq queue.
type QueueStats struct {
	Name    string
	Pending int
	Active  int
	Age     time.Duration // of the oldest pending task
}

// Stats reads the figures of the whole system. Cost: five round trips in sequence, for any
// number of benches and queues; no scan.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var out Stats
	now, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return out, classify("stats", err)
	}
	upper := strconv.FormatInt(now.UnixMilli(), 10)
	pipe := s.rdb.Pipeline()
	due := pipe.ZCount(ctx, dueKey, "-inf", upper)
	oldest := pipe.ZRangeByScoreWithScores(ctx, dueKey, &redis.ZRangeBy{Min: "-inf", Max: upper, Count: 1})
	live := pipe.HGetAll(ctx, keysKey)
	parked := make([]*redis.IntCmd, 0, len(nexus.Kinds()))
	for _, kind := range nexus.Kinds() {
		parked = append(parked, pipe.ZCard(ctx, stateIndex(kind, nexus.RollbackFailed)))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return out, classify("stats", err)
	}
	out.Due = int(due.Val())
	for _, n := range parked {
		out.Parked += int(n.Val())
	}
	for _, z := range oldest.Val() {
		out.DueAge = now.Sub(time.UnixMilli(int64(z.Score)))
	}
	present, _ := presences(live.Val(), now)
	for _, p := range present {
		if p.Role == roleWorker {
			out.Workers++
		} else {
			out.APIs++
		}
	}
	out.Queues = []QueueStats{{Name: QueueResume}, {Name: QueueProvision}, {Name: QueueMachine}}
	var all errgroup.Group
	for i := range out.Queues {
		q := &out.Queues[i]
		all.Go(func() error {
			if info, err := s.queue.look.GetQueueInfo(q.Name); err == nil { // asynq does not know a queue that was never used
				q.Pending, q.Active, q.Age = info.Pending, info.Active, info.Latency
			}
			return nil
		})
	}
	all.Go(func() (err error) {
		out.Benches, err = s.Benches(ctx)
		return err
	})
	return out, all.Wait()
}
