package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/api/gen"
)

// The numbers of waiting jobs for which the scripts are timed, and for how long. The smaller
// number is the peer.
const (
	crowdSize = 100_000
	crowdFew  = 10
	crowdTime = 5 * time.Second // how long a worker takes jobs from the queue
)

// crowded lets 100,000 jobs wait for a paused bench, opens the bench, lets a worker take
// jobs, and times the scripts meanwhile. The row is the time of the longest script: Redis
// serves nobody else while a script runs. The peer is the same with ten jobs.
func crowded(ctx context.Context, s *stack) ([]row, error) {
	benches, err := s.client.Benches(ctx)
	if err != nil || len(benches.Benches) != 1 {
		return nil, fmt.Errorf("there are %d benches: %w", len(benches.Benches), err)
	}
	bench := benches.Benches[0].Name
	if _, err := s.client.SetBench(ctx, bench, "pause"); err != nil {
		return nil, err
	}
	waiting, err := s.signup(ctx)
	if err == nil {
		err = eventually(ctx, 20*time.Second, "a job waits", func() bool {
			job, _, _, err := s.client.Job(ctx, waiting, "", 0)
			return err == nil && job.State == gen.StateWaiting
		})
	}
	if err = errors.Join(err, s.worker.end(10*time.Second)); err != nil {
		return nil, err
	}
	var longest [2][]float64
	for run := range s.runs {
		for i, size := range []int{crowdSize, crowdFew} {
			ms, err := s.longestScript(ctx, bench, waiting, size, fmt.Sprintf("crowd-worker-%d-%d", run, i))
			if err != nil {
				return nil, err
			}
			longest[i] = append(longest[i], ms)
		}
	}
	if _, err := s.client.SetBench(ctx, bench, "resume"); err != nil { // for the parts that follow
		return nil, err
	}
	if s.worker, err = s.startWorker(ctx, "worker-after-crowd"); err != nil {
		return nil, err
	}
	return []row{row{ID: "crowd_block", What: "100,000 jobs wait, their bench is opened: longest script", Unit: unitMillis,
		Peer: peerFigures{What: "ten jobs wait"}, Budget: atMost(10)}.judged(longest[0], longest[1])}, s.settled(ctx)
}

// longestScript makes `size` copies of a waiting job, opens the bench, lets a worker take
// jobs for crowdTime, and returns the duration of the longest script in Redis' slow log, in
// ms. It pauses the bench again and removes the copies.
func (s *stack) longestScript(ctx context.Context, bench, waiting string, size int, name string) (longest float64, err error) {
	record, err := s.rdb.HGetAll(ctx, "{nexus}:job:"+waiting).Result()
	if err != nil {
		return 0, err
	}
	ids, now, pipe := make([]string, size), time.Now().UnixMilli(), s.rdb.Pipeline()
	for i := range ids {
		ids[i] = fmt.Sprintf("%032x", i+1)
		at := float64(now + int64(i)%3_600_000) // within the hour, as for jobs far behind in the queue
		record["id"], record["owner"], record["site"], record["nextAt"] = ids[i], ids[i], ids[i][20:]+".localhost", strconv.FormatFloat(at, 'f', 0, 64)
		pipe.HSet(ctx, "{nexus}:job:"+ids[i], record)
		pipe.ZAdd(ctx, "{nexus}:due", redis.Z{Score: at, Member: ids[i]})
		pipe.ZAdd(ctx, "{nexus}:waiters:"+bench, redis.Z{Score: float64(now) + float64(i)/float64(size), Member: ids[i]})
		pipe.HSet(ctx, "{nexus}:asking:"+bench, ids[i], now)
		if i%1000 == 999 || i == size-1 {
			if _, err := pipe.Exec(ctx); err != nil {
				return 0, err
			}
		}
	}
	defer func() { err = errors.Join(err, s.removeCrowd(ctx, bench, ids)) }()
	if err := errors.Join(s.rdb.ConfigSet(ctx, "slowlog-log-slower-than", "500").Err(), s.rdb.ConfigSet(ctx, "slowlog-max-len", "4096").Err(),
		s.rdb.Do(ctx, "slowlog", "reset").Err()); err != nil {
		return 0, err
	}
	if _, err := s.client.SetBench(ctx, bench, "resume"); err != nil {
		return 0, err
	}
	worker, err := s.startWorker(ctx, name)
	if err != nil {
		return 0, err
	}
	err = errors.Join(pause(ctx, crowdTime), worker.end(20*time.Second))
	if _, paused := s.client.SetBench(ctx, bench, "pause"); err == nil {
		err = paused
	}
	slow, read := s.rdb.SlowLogGet(ctx, 4096).Result()
	for _, entry := range slow {
		if len(entry.Args) > 0 && strings.HasPrefix(strings.ToLower(entry.Args[0]), "eval") {
			longest = max(longest, millis(entry.Duration))
		}
	}
	return longest, errors.Join(err, read)
}

// removeCrowd deletes the copies from all keys.
func (s *stack) removeCrowd(ctx context.Context, bench string, ids []string) error {
	pipe := s.rdb.Pipeline()
	for i, id := range ids {
		pipe.Del(ctx, "{nexus}:job:"+id, "{nexus}:events:"+id, "{nexus}:credentials:"+id)
		for _, set := range []string{"{nexus}:due", "{nexus}:leases", "{nexus}:jobs", "{nexus}:waiters:" + bench, "{nexus}:slots:" + bench} {
			pipe.ZRem(ctx, set, id)
		}
		pipe.HDel(ctx, "{nexus}:asking:"+bench, id)
		if i%1000 == 999 || i == len(ids)-1 {
			if _, err := pipe.Exec(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
