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

// crowded returns a store with a bench for which this many jobs wait, all due for a minute.
// Commands counts the commands of Redis, with those within scripts.
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

// atMost is the most commands of one script, however many jobs wait. A command takes a few
// µs, so a script takes a few ms.
const atMost = 1200

// TestCrowdCostsLittle: the cost of a script does not grow with the number of jobs that wait
// for a bench: not when the bench is opened, a slot is freed, or the due index is read.
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
	count("a take", func() (err error) { lease, job, _, err = f.Take(t.Context(), job.ID, 1, nil); return err })
	count("a reserve", func() error { _ = lease.Slot(t.Context(), "main", "nx1"); return nil }) // joins the queue
	job.State, job.WaitingFor = nexus.Waiting, nexus.WaitCapacity
	count("a wait", func() error { return lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}) })
	f.rdb.ZAdd(t.Context(), "{nexus}:slots:main", redis.Z{Score: float64(time.Unix(1_790_000_000, 0).Add(time.Hour).UnixMilli()), Member: "x"})
	f.advance(100 * time.Second) // all waiters are stale
	count("a reserve behind stale ones", func() error {
		next, _ := f.take(t, f.submit(t, submission("next.localhost")).ID)
		_ = next.Slot(t.Context(), "main", "nx2")
		return nil
	})
}

// TestRescueWaitsBehindNobody: the next read of the due index finds an expired lease, even
// if thousands of jobs have been due for longer.
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

// TestFarWaitersLookSeldom: a job far behind in the queue asks for a slot rarely, so that a
// long queue costs little. The first jobs of the queue become due when slots expire, though
// no script freed them.
func TestFarWaitersLookSeldom(t *testing.T) {
	t.Parallel()
	f, _ := crowded(t, 1000)
	f.rdb.ZAdd(t.Context(), "{nexus}:slots:main", // slots of dead workers
		redis.Z{Score: float64(time.Unix(1_790_000_000, 0).Add(20 * time.Second).UnixMilli()), Member: "x"},
		redis.Z{Score: float64(time.Unix(1_790_000_000, 0).Add(20 * time.Second).UnixMilli()), Member: "y"})
	lease, job, err := f.reserve(t, "last.localhost")
	wantCode(t, err, nexus.Limit)
	job.State, job.WaitingFor = nexus.Waiting, nexus.WaitCapacity
	if err := lease.Wait(t.Context(), &job, time.Minute, nexus.Event{}); err != nil {
		t.Fatal(err)
	}
	now, _ := f.rdb.Time(t.Context()).Result()
	if rest := f.job(t, job.ID).NextAt.Sub(now); rest < 5*time.Minute || rest > time.Hour {
		t.Errorf("number 1001 looks again after %s", rest)
	}
	for _, id := range f.rdb.ZRange(t.Context(), "{nexus}:waiters:main", 0, 999).Val() { // all wait for an hour
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

// TestSlotFreedBeforeTheWait: if a slot is freed after a job asked for one and before its
// wait is written, the job is due at once and does not wait while the bench is idle.
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
		if err := f.mustLease(t, job.ID).Slot(t.Context(), "main", "nx1"); err != nil {
			t.Errorf("no slot: %v", err)
		}
	})
}
