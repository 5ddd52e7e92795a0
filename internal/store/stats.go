package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Stats are the figures of the whole system that the metrics and alarms use.
type Stats struct {
	Due     int           // jobs and tenants that are due and not looked at yet
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
	for name, value := range live.Val() {
		if !fresh(value, now) {
			continue
		}
		if strings.HasPrefix(name, "worker/") {
			out.Workers++
		} else {
			out.APIs++
		}
	}
	out.Queues = []QueueStats{{Name: QueueResume}, {Name: QueueProvision}, {Name: QueueMaintenance}}
	var all errgroup.Group
	for i := range out.Queues {
		q := &out.Queues[i]
		all.Go(func() error {
			if info, err := s.queue.look.GetQueueInfo(q.Name); err == nil { // one that was never used is unknown to asynq
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

// Workers counts the workers that take jobs: those that announced themselves lately and
// whose clocks are right. Cost: one round trip.
func (s *Store) Workers(ctx context.Context) (count int, err error) {
	pipe := s.rdb.Pipeline()
	all, now := pipe.HGetAll(ctx, keysKey), pipe.Time(ctx)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, classify("workers", err)
	}
	for name, value := range all.Val() {
		if strings.HasPrefix(name, "worker/") && fresh(value, now.Val()) && skewOf(strings.Fields(value)).Abs() <= MaxSkew {
			count++
		}
	}
	return count, nil
}

// fresh tells whether an announcement ("<unix seconds> <key ids> <skew in ms>")
// is of the last two minutes.
func fresh(value string, now time.Time) bool {
	said := strings.Fields(value)
	if len(said) != 3 {
		return false
	}
	at, err := strconv.ParseInt(said[0], 10, 64)
	return err == nil && now.Sub(time.Unix(at, 0)) <= 2*time.Minute
}

func skewOf(said []string) time.Duration {
	ms, _ := strconv.ParseInt(said[2], 10, 64) // of ours: a number
	return time.Duration(ms) * time.Millisecond
}
