package store_test

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	inner "github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/nexus-erp/provisioner/internal/nexus"
	"github.com/nexus-erp/provisioner/internal/store"
)

// crowded is a bench with so many jobs in line for it, all of them due since a minute,
// and a count of the commands that Redis was asked for, scripts' own included.
func crowded(t *testing.T, waiters int) (f *fixture, commands *atomic.Int64) {
	t.Helper()
	m, now, commands := miniredis.RunT(t), time.Unix(1_790_000_000, 0), &atomic.Int64{}
	m.SetTime(now)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	f = &fixture{Store: store.New(rdb, store.Options{Slots: 2, Embedded: true}), rdb: rdb, advance: func(d time.Duration) { now = now.Add(d); m.SetTime(now) }}
	f.bench(t)
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	for i := range waiters {
		id, at := fmt.Sprintf("%032x", 0xa000+i), now.UnixMilli()-60_000+int64(i)
		m.HSet("{nexus}:job:"+id, "id", id, "kind", "provision", "site", id+".localhost", "state", "waiting", "dispatch", "1", "taken", "1", "leaseUntil", "0",
			"nextAt", strconv.FormatInt(at, 10), "gen", "0", "rev", "1", "asked", "main", "askedAt", strconv.FormatInt(at, 10),
			"giveUpAt", strconv.FormatInt(now.Add(24*time.Hour).UnixMilli(), 10), "waitingFor", "capacity")
		for key, score := range map[string]float64{"{nexus}:due": float64(at), "{nexus}:waiters:main": float64(at)} {
			if _, err := m.ZAdd(key, score, id); err != nil {
				t.Fatal(err)
			}
		}
		m.HSet("{nexus}:asking:main", id, ms)
	}
	m.Server().SetPreHook(func(*inner.Peer, string, ...string) bool { commands.Add(1); return false })
	return f, commands
}

// atMost bounds the commands of one script, however many wait: some µs each, so that
// it takes a few ms of Redis.
const atMost = 1200

// TestCrowdCostsLittle: no script's work grows with the number of jobs that wait for a
// bench: not when it is opened, when a slot is freed, nor when the due index is read.
func TestCrowdCostsLittle(t *testing.T) {
	t.Parallel()
	f, commands := crowded(t, 3000)
	count := func(what string, do func() error) {
		t.Helper()
		before := commands.Load()
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		n := commands.Load() - before
		t.Logf("%s: %d commands", what, n)
		if n > atMost {
			t.Errorf("%s takes %d commands, want at most %d", what, n, atMost)
		}
	}
	var lease *store.Lease
	job := f.submit(t, submission("first.localhost"))
	count("an opened bench", func() error { return f.SetBench(t.Context(), "main", nexus.BenchOpen, "op") })
	count("a take", func() (err error) { lease, job, _, err = f.Take(t.Context(), job.ID, 1); return err })
	count("a reserve", func() error { _ = lease.Reserve(t.Context(), "main", "nx1"); return nil }) // in line
	job.State, job.WaitingFor = nexus.Waiting, nexus.WaitCapacity
	count("a wait", func() error { return lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}) })
	f.rdb.ZAdd(t.Context(), "{nexus}:slots:main", redis.Z{Score: float64(time.Unix(1_790_000_000, 0).Add(time.Hour).UnixMilli()), Member: "x"})
	f.advance(100 * time.Second) // all of them are stale
	count("a reserve behind stale ones", func() error {
		next, _ := f.take(t, f.submit(t, submission("next.localhost")).ID)
		_ = next.Reserve(t.Context(), "main", "nx2")
		return nil
	})
}

// TestRescueWaitsBehindNobody: a lease that ran out is found by the next look, be there
// thousands that are due for longer.
func TestRescueWaitsBehindNobody(t *testing.T) {
	t.Parallel()
	f, _ := crowded(t, 3000)
	id := f.submit(t, submission("dead.localhost")).ID
	f.take(t, id)
	f.advance(store.LeaseTime + time.Millisecond)
	found, err := f.Tick(t.Context(), true)
	if err != nil || len(found.Rescued) != 1 || found.Rescued[0] != id {
		t.Errorf("rescued %v, %v", found.Rescued, err)
	}
}

// TestFarWaitersLookSeldom: who stands far behind looks again by itself only now and
// then, so that a long queue costs its workers little; who stands in front is roused
// when there is room, though nobody gave a slot back.
func TestFarWaitersLookSeldom(t *testing.T) {
	t.Parallel()
	f, _ := crowded(t, 1000)
	f.rdb.ZAdd(t.Context(), "{nexus}:slots:main", // of workers that are dead
		redis.Z{Score: float64(time.Unix(1_790_000_000, 0).Add(20 * time.Second).UnixMilli()), Member: "x"},
		redis.Z{Score: float64(time.Unix(1_790_000_000, 0).Add(20 * time.Second).UnixMilli()), Member: "y"})
	lease, job, err := f.reserve(t, "last.localhost")
	wantCode(t, err, nexus.Limit)
	job.State, job.WaitingFor = nexus.Waiting, nexus.WaitCapacity
	if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
		t.Fatal(err)
	}
	now, _ := f.Time(t.Context())
	if rest := f.job(t, job.ID).NextAt.Sub(now); rest < 5*time.Minute || rest > time.Hour {
		t.Errorf("number 1001 looks again after %s", rest)
	}
	for _, id := range f.rdb.ZRange(t.Context(), "{nexus}:waiters:main", 0, 999).Val() { // all rest for long
		f.rdb.HSet(t.Context(), "{nexus}:job:"+id, "nextAt", now.Add(time.Hour).UnixMilli())
		f.rdb.ZAdd(t.Context(), "{nexus}:due", redis.Z{Score: float64(now.Add(time.Hour).UnixMilli()), Member: id})
	}
	f.advance(30 * time.Second)
	f.tick(t)
	for i, id := range f.rdb.ZRange(t.Context(), "{nexus}:waiters:main", 0, 3).Val() {
		if woken := f.job(t, nexus.JobID(id)).Dispatch == 2; woken != (i < 2) {
			t.Errorf("number %d in line, roused: %t", i+1, woken)
		}
	}
}

// TestSlotFreedBeforeTheWait: a slot that is freed after a job asked for one, and before
// it rests, is its own: it does not sleep beside an idle bench.
func TestSlotFreedBeforeTheWait(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fixture) { // two slots
		f.bench(t)
		first, firstJob, err := f.reserve(t, "a.localhost")
		if err == nil {
			_, _, err = f.reserve(t, "b.localhost")
		}
		if err != nil {
			t.Fatal(err)
		}
		lease, job, err := f.reserve(t, "c.localhost")
		wantCode(t, err, nexus.Limit)
		firstJob.State = nexus.Succeeded
		if err := first.Finish(t.Context(), &firstJob, "", nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		job.State, job.WaitingFor = nexus.Waiting, nexus.WaitCapacity
		if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
			t.Fatal(err)
		}
		f.advance(time.Millisecond)
		f.tick(t)
		if err := f.mustLease(t, job.ID).Reserve(t.Context(), "main", "nx1"); err != nil {
			t.Errorf("no slot: %v", err)
		}
	})
}
