package store

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// The breaker pauses a bench after tripAfter jobs in a row failed in the same step with
// the same code: for firstPause, then for twice as long at each trip, up to longestPause.
const (
	tripAfter    = 5
	firstPause   = 30 * time.Second
	longestPause = 15 * time.Minute
)

// AnnounceBench records a bench and how many operations it admits at once. Its
// workers repeat the call.
func (s *Store) AnnounceBench(ctx context.Context, name string) error {
	pipe := s.rdb.TxPipeline()
	pipe.SAdd(ctx, benchesKey, name)
	pipe.HSet(ctx, benchKey(name), "slots", s.o.Slots)
	if _, err := pipe.Exec(ctx); err != nil {
		return classify("announce_bench", err)
	}
	return nil
}

// Benches returns the state of admission of each bench, by name. Cost: two round trips.
func (s *Store) Benches(ctx context.Context) ([]nexus.BenchStatus, error) {
	names, err := s.rdb.SMembers(ctx, benchesKey).Result()
	if err != nil {
		return nil, classify("benches", err)
	}
	return s.readBenches(ctx, names)
}

// readBenches reads the benches of these names, in their order. Cost: one round
// trip, none for no names.
func (s *Store) readBenches(ctx context.Context, names []string) ([]nexus.BenchStatus, error) {
	if len(names) == 0 {
		return nil, nil
	}
	slices.Sort(names)
	type read struct {
		fields         *redis.MapStringStringCmd
		slots, machine *redis.ZSliceCmd
		waiting        *redis.IntCmd
	}
	pipe := s.rdb.Pipeline()
	now := pipe.Time(ctx)
	reads := make([]read, len(names))
	for i, name := range names {
		reads[i] = read{fields: pipe.HGetAll(ctx, benchKey(name)), slots: pipe.ZRangeWithScores(ctx, prefix+"slots:"+name, 0, -1),
			machine: pipe.ZRangeWithScores(ctx, prefix+"slots:"+name+" machine", 0, -1), waiting: pipe.ZCard(ctx, prefix+"waiters:"+name)}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, classify("benches", err)
	}
	out := make([]nexus.BenchStatus, len(names))
	for i, r := range reads {
		f := r.fields.Val()
		b := nexus.BenchStatus{Name: names[i], Mode: nexus.BenchMode(f["mode"]), By: f["by"], Step: nexus.StepName(f["step"]),
			Code: nexus.Code(f["code"]), Waiting: int(r.waiting.Val())}
		for _, slot := range slices.Concat(r.slots.Val(), r.machine.Val()) { // an expired slot is free
			if int64(slot.Score) > now.Val().UnixMilli() {
				b.Used++
			}
		}
		if b.Mode == "" {
			b.Mode = nexus.BenchOpen
		}
		b.Slots, _ = strconv.Atoi(f["slots"])       // absent: 0
		b.Failures, _ = strconv.Atoi(f["failures"]) // absent: 0
		b.Until = millis(f["until"])
		out[i] = b
	}
	return out, nil
}

// SetBench sets the mode of a bench at an operator's request: open, paused or drained.
// Not_found: no worker ever announced a bench of this name.
func (s *Store) SetBench(ctx context.Context, name string, mode nexus.BenchMode, actor string) error {
	r, err := s.run(ctx, "set_bench", benchScript(), benchKey(name), name, string(mode), actor)
	if err == nil && r.word == "absent" {
		return refuse("set_bench", nexus.NotFound, "There is no bench %s; nexus bench list shows the benches.", name)
	}
	return err
}

// BenchFailed counts a failure toward the breaker of the job's bench. If this failure trips
// the breaker, tripped is the time at which the bench is tried again; else it is zero.
func (l *Lease) BenchFailed(ctx context.Context, step nexus.StepName, code nexus.Code) (tripped time.Time, err error) {
	r, err := l.run(ctx, "bench_failed", failedScript, string(step), string(code), tripAfter,
		firstPause.Milliseconds(), longestPause.Milliseconds())
	if err == nil && r.word == "tripped" {
		tripped = millis(r.text(0))
	}
	return tripped, err
}
