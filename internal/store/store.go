package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
)

// Options configure a store. The zero value is usable.
type Options struct {
	Slots     int           // operations a bench admits at once; 0: 64
	Retention time.Duration // how long finished jobs are kept; 0: 30 days
	Embedded  bool          // an embedded Redis: its policies are not checked
}

// Store reads and writes jobs, tenants and sealed secrets in Redis. Safe for concurrent use.
type Store struct {
	rdb   redis.UniversalClient
	queue queue
	o     Options

	mu       sync.Mutex
	watched  map[nexus.JobID]*topic
	idle     time.Duration // lookIdle, but in tests
	needed   chan struct{} // a signal to Listen that somebody watches
	installs sync.Map      // "" → nexus.InstallID, once it was read
	probes   probes
	indexed  atomic.Bool // the indexes by state exist, see listed
}

// New wraps a Redis client, which the caller closes after its last use.
func New(rdb redis.UniversalClient, o Options) *Store {
	if o.Slots <= 0 {
		o.Slots = 64
	}
	if o.Retention <= 0 {
		o.Retention = 30 * 24 * time.Hour
	}
	return &Store{rdb: rdb, o: o, watched: map[nexus.JobID]*topic{}, idle: lookIdle, needed: make(chan struct{}, 1), queue: newQueue(rdb)}
}

// Ping sends a PING to Redis; unavailable if there is no answer.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.rdb.Ping(ctx).Err(); err != nil {
		return classify("ping", err)
	}
	return nil
}

// Install returns the id of this installation; the first call on a new Redis creates it.
// Cost: one round trip on the first call, then none.
func (s *Store) Install(ctx context.Context) (nexus.InstallID, error) {
	if id, ok := s.installs.Load(""); ok {
		return id.(nexus.InstallID), nil
	}
	// Read first, so that a process can start while Redis refuses writes.
	id, err := s.rdb.Get(ctx, installKey).Result()
	if errors.Is(err, redis.Nil) {
		if err := s.rdb.SetNX(ctx, installKey, string(nexus.NewInstallID()), 0).Err(); err != nil {
			return "", classify("install", err)
		}
		id, err = s.rdb.Get(ctx, installKey).Result()
	}
	if err != nil {
		return "", classify("install", err)
	}
	s.installs.Store("", nexus.InstallID(id))
	return nexus.InstallID(id), nil
}

// Skew returns how far this machine's clock is ahead of Redis' clock, which is used for
// leases, waits and order. It is exact to half a round trip.
func (s *Store) Skew(ctx context.Context) (time.Duration, error) {
	asked := time.Now()
	theirs, err := s.rdb.Time(ctx).Result()
	if err != nil {
		return 0, classify("skew", err)
	}
	took := time.Since(asked)
	return asked.Add(took / 2).Sub(theirs), nil
}

// Readiness is what /readyz reports.
type Readiness struct {
	Problems []string // sentences on what keeps the system from working; nil: it works
	Warnings []string // sentences on what needs attention but stops nothing; nil: none
	Workers  *int     // how many take jobs; nil: unknown, since Redis cannot be read
}

// Ready tells whether the system works. Cost: one round trip, one more if there are
// benches, one or two more for each open bench, and one more for a probe, at most every three
// seconds.
func (s *Store) Ready(ctx context.Context) (r Readiness) {
	pipe := s.rdb.Pipeline()
	said, now, names := pipe.HGetAll(ctx, keysKey), pipe.Time(ctx), pipe.SMembers(ctx, benchesKey)
	if _, err := pipe.Exec(ctx); err != nil {
		r.Problems = []string{answerOf(err).say}
		return r
	}
	live, old := presences(said.Val(), now.Val())
	if len(old) > 0 {
		s.rdb.HDel(ctx, keysKey, old...)
	}
	workers := workersOf(live)
	r.Workers = &workers
	for _, a := range s.probed(ctx) {
		r.Problems = append(r.Problems, a.say)
	}
	r.Problems = append(r.Problems, presenceProblems(live)...)
	r.Warnings = append(s.benchWarnings(ctx, names.Val()), s.leftWarnings(ctx)...)
	return r
}

// benchWarnings names the benches that admit no new jobs, and the shelves of the others that
// hold nothing although they should.
func (s *Store) benchWarnings(ctx context.Context, names []string) (out []string) {
	benches, err := s.readBenches(ctx, names)
	if err != nil {
		return []string{"The benches cannot be read from Redis."}
	}
	for _, b := range benches {
		switch b.Mode {
		case nexus.BenchTripped:
			out = append(out, fmt.Sprintf("The bench %s is paused by its breaker until %s: the step %s failed %d times in a row (%s); nexus bench check says what it lacks.",
				b.Name, b.Until.Format(time.RFC3339), b.Step, b.Failures, b.Code))
		case nexus.BenchPaused, nexus.BenchDrained:
			out = append(out, fmt.Sprintf("The bench %s was %s by %s; nexus bench resume %s opens it.", b.Name, b.Mode, b.By, b.Name))
		default:
			shelves, _ := s.Shelves(ctx, b.Name) // without them there are other warnings
			for _, shelf := range shelves {
				out = append(out, shelfWarning(shelf)...)
			}
		}
	}
	return out
}

// presenceProblems names wrong clocks, missing workers, and the sealing keys that live
// APIs use and no live worker has.
func presenceProblems(live []Presence) (out []string) {
	held, writing := map[string]bool{}, map[string]bool{}
	wrong := false // the clock of a worker is wrong
	for _, p := range live {
		switch {
		case p.Skew.Abs() > MaxSkew:
			out = append(out, fmt.Sprintf("The clock of %s/%s is off by %s; set it (the job registry's clock counts).", p.Role, p.Name, p.Skew.Round(time.Second)))
			wrong = wrong || p.Role == roleWorker
		case p.Role == roleWorker:
			for _, id := range p.Keys {
				held[id] = true
			}
		default:
			writing[p.Keys[0]] = true
		}
	}
	switch {
	case workersOf(live) > 0:
	case wrong:
		return append(out, "No worker takes jobs until a clock is set.")
	default:
		return append(out, "No worker is running; start one with: worker")
	}
	for id := range writing {
		if !held[id] {
			out = append(out, fmt.Sprintf("No worker holds the sealing key %q; give NEXUS_SECRET_KEYS of the API to the workers.", id))
		}
	}
	return out
}
